"""The web page to refine masks interactively, and its HTTP interface (extra ``app``).

`guard` refuses hostile requests, `work` has the functions of page and HTTP interface, `page` is the layout of the page
and `actions` what its controls do, `http` is the HTTP interface, and `server` combines them.
"""
