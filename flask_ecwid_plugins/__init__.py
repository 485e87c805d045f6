"""The modules that flask and pytest load at their start, wherever flask-ecwid is installed.

The modules are outside of flask_ecwid, because importing any module of flask_ecwid imports the
whole package. That would add 200 ms to every `flask` command and every test run.
"""
