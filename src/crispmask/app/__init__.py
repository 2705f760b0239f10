"""The web page to refine masks interactively, and its HTTP interface (extra ``app``).

`guard` refuses hostile requests, `routes` lists the others. Of the page, `static` has the files, `page` the requests,
`photos` what is open, `scene` one photo with its steps, `edits` what can be asked of it, `prompts` new objects,
`refiner` their masks, `downloads` the files. `http` is the HTTP interface, and `server` combines all.
"""
