"""What `import pydensecrf` finds in a process that `crispmask.pydensecrf.install` has not prepared itself.

The folder above is on the module search path that worker processes inherit. This module takes the drop-in's place only
until it has been imported: then the name stands for `crispmask.pydensecrf`.
"""

from crispmask.pydensecrf import install

install()
