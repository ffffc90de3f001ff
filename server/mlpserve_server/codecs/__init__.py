"""Messages to images and predictions to messages: one codec for each method that the batching loop answers.

May import models, calls and what is below.
"""
