"""Look inside artificial and biological neural networks with the same few verbs.

Everything public hangs on this module and is loaded when it is first used, so that the import itself stays
cheap. ``__init__.pyi`` is the one list of public names: a line there makes the name exist, for users and for
type checkers.

Examples
--------
>>> import neuros_mechint as nm
>>> nm.Zero("blocks.1.z[head=2]").site
'blocks.1.z[head=2]'
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
