import pickle

from seg_jax.errors import InputError


def test_a_message_names_its_field_and_its_flag():
    error = InputError("{field} is 2; set {flag} 3 or more", field="task.max_objects")
    assert str(error) == "task.max_objects is 2; set --task.max-objects 3 or more"
    assert error.field == "task.max_objects"
    assert str(InputError("a {field} of a file's")) == "a {field} of a file's"


def test_the_field_of_an_object_inside_another():
    error = InputError("{field}: set {flag}", field="task.loss.dice").inside("panoptic")
    assert str(error) == "task.panoptic.loss.dice: set --task.panoptic.loss.dice"
    assert str(InputError("no field").inside("panoptic")) == "no field"


def test_an_error_survives_another_process():
    error = pickle.loads(pickle.dumps(InputError("set {flag}", field="data.raw")))
    assert (str(error), error.field) == ("set --data.raw", "data.raw")
