"""Named entities, the kinds of personal data that only a language model finds.

The model runs in processes of its own, since it takes seconds to start, hundreds of megabytes, and
milliseconds of Python for a sentence. This process never imports it.
"""
