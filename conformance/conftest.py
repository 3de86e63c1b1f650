pytest_plugins = ["snnx_conformance.plugin"]
