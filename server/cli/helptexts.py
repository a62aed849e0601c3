"""What `/?` prints inside a conversation."""

from __future__ import annotations

COMMANDS = '''Available Commands:
  /set            Set something for this conversation (/? set)
  /show           Show what is known of the model (/? show)
  /load <model>   Talk to another model
  /save <model>   Save this conversation as a model
  /clear          Forget what was said
  /list           List the models
  /edit [text]    Write a message in your editor (also Ctrl + g)
  /bye            Leave
  /?, /help       This help; /? shortcuts for the keys

Begin a message of several lines with """ and end it with """.
'''
FILES = "Write a path (/path/to/file) to add a .jpg, .png or .webp image, or a .wav sound.\n"
SET = """Available Commands:
  /set parameter ...     One parameter of the model (/set parameter lists them)
  /set system <text>     The system message
  /set history           Keep a history of what you type
  /set nohistory         Keep none
  /set wordwrap          Wrap words at the edge
  /set nowordwrap        Let the terminal break lines
  /set format json       Answers in JSON
  /set noformat          Answers in any form
  /set verbose           Statistics after each answer
  /set quiet             No statistics
  /set think [level]     Think before answering
  /set nothink           Answer at once
"""
SHOW = """Available Commands:
  /show info         All in short
  /show license      The license
  /show modelfile    The Modelfile
  /show parameters   The model's parameters and yours
  /show system       The system message
  /show template     The prompt template
"""
SHORTCUTS = """Available keyboard shortcuts:
  Ctrl + a, Ctrl + e   To the beginning, the end of the line
   Alt + b,  Alt + f   One word back, forward
  Ctrl + k, Ctrl + u   Delete what follows, what precedes
  Ctrl + w             Delete the word before
  Ctrl + l             Clear the screen
  Ctrl + g             Write the message in your editor
  Ctrl + c             Stop the answer
  Ctrl + d             Leave (/bye)
"""
PARAMETERS = """Available Parameters:
  /set parameter seed <int>             Same seed, same answer
  /set parameter num_predict <int>      How many tokens at most
  /set parameter top_k <int>            Choose among the k likeliest tokens
  /set parameter top_p <float>          Choose among those that make up this probability
  /set parameter min_p <float>          Leave out tokens less likely than this share of the likeliest
  /set parameter num_ctx <int>          The window, in tokens
  /set parameter temperature <float>    How freely to choose
  /set parameter repeat_penalty <float> How strongly to avoid repetition
  /set parameter repeat_last_n <int>    How far back repetition counts
  /set parameter num_gpu <int>          How many layers on the GPU
  /set parameter stop <text> <text> ... Where to stop
"""
TOPICS = {
    "set": SET,
    "/set": SET,
    "show": SHOW,
    "/show": SHOW,
    "shortcut": SHORTCUTS,
    "shortcuts": SHORTCUTS,
}
