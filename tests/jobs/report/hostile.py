"""Texts that attack whoever shows them."""

HOSTILE = {
    "script": "<script>window.hacked = 1</script>",
    "closing": "</script></pre><script>window.hacked = 2</script><!--",
    "handler": '"><img src=x onerror="window.hacked = 3">',
    "link": "<a href='javascript:window.hacked = 4'>click</a>",
    "right-to-left": "safe \u202egnp.exe\u202c \u2066x\u2069",
    "zero-width": "pay\u200bpal \ufeffzero\u2060width\u200d",
    "surrogate": b"bad \xff\xfe bytes".decode("utf-8", "surrogateescape"),
    "replaced": b"bad \xff\xfe bytes".decode("utf-8", "replace"),
    "terminal": "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J \x00\x7f",
    "template": "{{ 7 * 7 }} {% raw %} ${7*7}",
    "separators": "line\u2028separator\u2029\x0b\x0c\x85",
    "megabyte": "x" * 1_000_000,
}
