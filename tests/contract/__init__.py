import pytest

pytest.register_assert_rewrite("tests.contract.fault_answers", "tests.contract.failover_checks")
