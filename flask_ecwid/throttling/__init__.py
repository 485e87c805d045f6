"""May a call to Ecwid be made now?"""
