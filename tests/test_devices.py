import pytest
import torch

from vdit.devices import available_device
from vdit.types import InputError

THERE = torch.accelerator.current_accelerator(check_available=True)


def test_the_cpu_is_always_there_and_auto_takes_what_there_is():
    assert available_device("cpu") == torch.device("cpu")
    assert available_device("auto") == (THERE or torch.device("cpu"))


def test_what_is_not_there_is_refused():
    absent = "cuda:99" if torch.cuda.is_available() else "cuda"
    with pytest.raises(InputError, match=f"device {absent} is not there: this machine has"):
        available_device(absent)
    with pytest.raises(InputError, match="device 'gpu' is not one that torch knows"):
        available_device("gpu")
