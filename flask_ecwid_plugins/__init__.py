"""The modules that flask and pytest load at their start, wherever flask-ecwid is installed.

They stand outside of flask_ecwid, because an import of any module of flask_ecwid imports all of it.
Inside of it they would add 200 ms to every `flask` command and every test run of the environment.
"""
