# The one list of public names: each line makes `neuros_mechint.NAME` available, imported when first used.
__version__: str

from .adapters.registry import adapt as adapt
from .causal.ablation.study import AblationStudy as AblationStudy
from .causal.attribution.attribute import attribute as attribute
from .causal.metrics import kl_divergence as kl_divergence
from .causal.metrics import log_probability as log_probability
from .causal.metrics import logit_difference as logit_difference
from .causal.patching.patcher import ActivationPatcher as ActivationPatcher
from .causal.paths.analyzer import PathAnalyzer as PathAnalyzer
from .causal.paths.flow import attention_rollout as attention_rollout
from .causal.paths.flow import direct_logit_attribution as direct_logit_attribution
from .causal.paths.flow import logit_lens as logit_lens
from .causal.paths.graph import CausalGraph as CausalGraph
from .core import errors as errors
from .core.ablations import Mean as Mean
from .core.ablations import Resample as Resample
from .core.activations import Activations as Activations
from .core.adapter import Adapter as Adapter
from .core.edits import Add as Add
from .core.edits import Apply as Apply
from .core.edits import Clamp as Clamp
from .core.edits import Project as Project
from .core.edits import Replace as Replace
from .core.edits import Scale as Scale
from .core.edits import Zero as Zero
from .core.recording import Recording as Recording
from .core.result import Result as Result
from .core.result import load_result as load_result
from .core.sites import Site as Site
from .core.sites import SiteTable as SiteTable
from .core.store import ActivationStore as ActivationStore
from .datasets.embedded import load_model as load_model
from .report.report import Report as Report
from .workflows.induction import induction_check as induction_check
from .workflows.quickstart import quickstart as quickstart
