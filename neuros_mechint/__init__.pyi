# The one list of public names. Each line makes its name available as `neuros_mechint.NAME`, imported when first used.
__version__: str

from .core.edits import Add as Add
from .core.edits import Apply as Apply
from .core.edits import Clamp as Clamp
from .core.edits import Mean as Mean
from .core.edits import Project as Project
from .core.edits import Replace as Replace
from .core.edits import Resample as Resample
from .core.edits import Scale as Scale
from .core.edits import Zero as Zero
from .core.sites import Site as Site
from .core.sites import SiteTable as SiteTable
