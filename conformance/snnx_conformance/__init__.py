"""The conformance suite: what every backend must compute, as levels of cases.

`snnx conform` runs it on several backends and prints a matrix; authors of other backends run
`pytest --pyargs snnx_conformance --snnx-backend NAME`.
"""
