"""A third party's plugin: a format of raw numbers beside a JSON index, and a source that is a dict of this process."""
