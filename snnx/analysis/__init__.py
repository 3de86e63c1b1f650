"""What a trained network did: firing rates, operation counts, pictures and a page about a run.

Nothing here needs a framework; matplotlib is imported only when a picture is drawn.
"""

from snnx.analysis.operations import StepOperations as StepOperations
from snnx.analysis.operations import operations as operations
from snnx.analysis.rates import LayerRate as LayerRate
from snnx.analysis.rates import Rates as Rates
from snnx.analysis.rates import firing_rates as firing_rates
from snnx.analysis.report import write_pictures as write_pictures
from snnx.analysis.report import write_report as write_report
