"""The checklist of the methods' equations: every row by its law, on every backend.

Rows that are exact hold bit for bit on dyadic inputs in every lane (`lanes`).
"""

from __future__ import annotations

import pytest
import test_checklist_counts as counts
import test_checklist_losses as losses
import test_checklist_networks as networks
import test_checklist_neurons as neurons
import test_checklist_rates as rates
import test_checklist_surrogates as surrogates
from lanes import LANES, every_lane

pytestmark = pytest.mark.slow

# The rows of the checklist, in its order, and the test of each.
ROWS = {
    "LIF hard/soft x detached/not, vjp vs autodiff, grads I, v0, lam, th, width": (
        neurons.test_vjp_of_lif_is_that_of_autograd
    ),
    "C-LIF, recurrent synapse vjp": neurons.test_vjp_of_clif_and_of_the_recurrent_synapse,
    "du[t]/dI[t] for C-LIF": neurons.test_an_input_of_clif_moves_nothing_in_its_own_step,
    "surrogate areas; dH/dw = -(x/w)h": surrogates.test_areas_and_width_gradients_of_the_surrogates,
    "Dspike b=1: h(0), h(.5)": surrogates.test_dspike_has_its_peak_and_edge,
    "Dspike b->0 vs rectangular a=1": surrogates.test_cool_dspike_is_the_rectangle,
    "Eq8(g, th) = g*th*triangle(gamma=th)": surrogates.test_bellec_form_is_a_scaled_triangle,
    "IF constant input count = clamp(floor(T I/th + 1 - alpha),0,T)": (
        neurons.test_if_under_a_constant_current_counts_in_closed_form
    ),
    "IF/LIF conservation identities 2.3": neurons.test_if_and_lif_conserve_their_input,
    "LIF mean quantisation error argmin alpha (T=20/15/10/5)": (
        rates.test_quantisation_error_of_lif_is_least_where_the_paper_fires
    ),
    "DSR last-layer factor T*sum w^2/S^2": rates.test_the_last_lif_layer_is_too_steep_by_its_factor,
    "DSR IF two-layer net: rule 5.2 = gradient of the mapping at actual rates": (
        rates.test_rule_of_dsr_if_is_the_gradient_of_the_mapping_at_the_actual_rates
    ),
    "DSR BN collapse formulas 5.3": rates.test_means_over_time_give_the_gradients_of_conv_and_norm,
    "L_SDT <= L_TET, gap identity": losses.test_sdt_is_at_most_tet_by_the_gap_of_logsumexp,
    "TET/SDT/MSE closed-form gradients": (
        losses.test_gradients_of_tet_sdt_and_mse_have_their_closed_forms
    ),
    "BN fold: conv+BN(eval) = folded conv": (
        losses.test_folded_convolution_is_convolution_and_running_norm
    ),
    "params": counts.test_parameters_are_those_of_the_released_models,
    "MACs": counts.test_operations_are_those_of_the_papers,
    "energy": counts.test_energy_is_that_of_dspikes_table_3,
    "truncation: eval outputs at T' < T equal the first T' of a T run": (
        networks.test_a_shorter_run_is_the_beginning_of_a_longer_one
    ),
    "ASGL p=1, fixed width = plain SG; p=0 = smooth net; eval = Theta": (
        networks.test_asgl_ends_are_plain_and_smooth_and_it_is_evaluated_with_spikes
    ),
    "C-LIF u0 for tau_m/tau_s = 4": neurons.test_the_gain_of_clif_is_the_u0_of_its_time_constants,
    "u0 kernel maximum on 3 ms grid, tau_m 30 ms": (
        neurons.test_the_kernel_of_clif_peaks_below_one_on_the_grid_of_3_ms
    ),
}
MODULES = (neurons, surrogates, rates, losses, counts, networks)


def test_every_row_has_a_test_and_every_test_every_lane() -> None:
    assert len(ROWS) == 23
    here = {
        v
        for module in MODULES
        for k, v in vars(module).items()
        if k.startswith("test_") and callable(v)
    }
    assert here == set(ROWS.values())
    for test in ROWS.values():
        assert every_lane.mark in test.pytestmark, test
    assert {lane.name for lane in LANES if lane.double} == {"numpy", "torch"}
    assert {lane.name for lane in LANES if not lane.double} == {"numpy", "torch", "mlx"}
