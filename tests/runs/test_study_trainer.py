"""The trainer as runs use it."""

from accelerate.utils import send_to_device
from datasets import Dataset

from repro.runs.study_trainer import ReadOnce


class Counted:
    """A data set that counts how often it is read."""

    def __init__(self, dataset):
        self.dataset, self.reads = dataset, 0

    def __len__(self):
        return len(self.dataset)

    def __getitems__(self, indices):
        self.reads += 1
        return self.dataset.__getitems__(indices)


def test_rows_that_are_asked_for_again_are_not_read_again():
    counted = Counted(Dataset.from_dict({"prompt": list("abcd")}))
    once = ReadOnce(counted)
    first = once.__getitems__([2, 2, 0])
    assert once.__getitems__([2, 2, 0]) is first
    assert first == [{"prompt": "c"}, {"prompt": "c"}, {"prompt": "a"}]
    assert once.__getitems__([1]) == [{"prompt": "b"}]
    assert once.__getitems__([2, 2, 0]) == first
    assert (len(once), counted.reads) == (4, 3)


def test_rows_are_moved_to_a_device_as_one():
    rows = ReadOnce(Dataset.from_dict({"prompt": list("abcd")})).__getitems__([0, 1])
    assert send_to_device(rows, "cpu") is rows
