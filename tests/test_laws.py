"""Results depend on the data and the parameters, and on nothing else."""

import pytest
from soak import laws


@pytest.mark.parametrize("law", laws.LAWS)
def test_a_result_depends_on_data_and_parameters_alone(law):
    laws.run(law, 200)
