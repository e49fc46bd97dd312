class Migration:
    def __init__(self, run):
        pass

    def submitted(self, c):
        pass

    def completed(self, c, time, tlp):
        pass

    def reset(self, controller, time, tlp):
        pass

    def entry_write(self, event):
        pass

    def finish(self):
        pass
