"""What a trained network did: firing rates, operation counts, pictures and a page about a run.

Nothing here needs a framework; matplotlib is imported only when a picture is drawn.
"""

from snnx.analysis.energy import Energy as Energy
from snnx.analysis.energy import measure_energy as measure_energy
from snnx.analysis.operations import StepOperations as StepOperations
from snnx.analysis.operations import operations as operations
from snnx.analysis.rates import LayerRate as LayerRate
from snnx.analysis.rates import Rates as Rates
from snnx.analysis.rates import firing_rates as firing_rates
from snnx.analysis.reconstruction import psnr as psnr
from snnx.analysis.reconstruction import ssim as ssim
from snnx.analysis.report import write_pictures as write_pictures
from snnx.analysis.report import write_report as write_report
from snnx.analysis.representation import RepresentationError as RepresentationError
from snnx.analysis.representation import representation_errors as representation_errors
from snnx.analysis.similarity import Similarity as Similarity
from snnx.analysis.similarity import dead_ratio as dead_ratio
from snnx.analysis.similarity import similarity as similarity
from snnx.analysis.similarity import smoothing_error as smoothing_error
