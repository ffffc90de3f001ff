"""The playground: a page on which a person draws a digit and watches a server answer.

app.py         the page's requests, as Starlette routes
answers.py     asks the server, through the client, and puts what it says into JSON
gallery.py     the images of a data set that the served model finds hardest
burst.py       a bounded burst of requests, and what it measured while it runs
static/        the page; plain JavaScript modules, no build
"""
