"""The web page: refine masks by hand and eye, on this computer (extra ``app``).

`guard` keeps hostile requests away, `work` does what page and HTTP interface offer, `page` is the Gradio page, `http`
the interface, `server` puts them together.
"""
