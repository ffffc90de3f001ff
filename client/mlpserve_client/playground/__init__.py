"""The playground: a web page to draw a digit on and watch a server classify it.

app.py         the page's requests, as Starlette routes
answers.py     calls the server through the client and turns the answers into JSON
gallery.py     the images of a data set that are hardest for the served model
burst.py       a bounded burst of requests, with live measurements
job.py         a scoring job beside it
static/        the page; plain JavaScript modules, no build
"""
