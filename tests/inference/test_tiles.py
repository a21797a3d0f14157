import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seg_jax.datasets import Nuclei
from seg_jax.errors import InputError
from seg_jax.inference.predictor import averaged, of_network
from seg_jax.inference.tiles import tiled, windows
from seg_jax.labels import Labels
from seg_jax.models import Net
from seg_jax.tasks import Panoptic, Semantic

LABELS = Labels(("a", "b", "c"))


class Local(Net):
    """Two 3×3 convolutions: a receptive field of five pixels."""

    @nn.compact
    def __call__(self, x, *, train, axis_name=None):
        for k, features in enumerate((8, self.outputs)):
            x = nn.Conv(features, (3, 3), name=f"conv_{k}")(x if k == 0 else nn.relu(x))
        return x.astype(jnp.float32)


class Constant(Net):
    """The same maps wherever it looks."""

    @nn.compact
    def __call__(self, x, *, train, axis_name=None):
        bias = self.param("bias", nn.initializers.normal(), (self.outputs,))
        return jnp.zeros((*x.shape[:3], self.outputs)) + bias


def predictor_of(net, task=None, labels=LABELS):
    task = task or Semantic()
    net = net.clone(outputs=len(task.maps(labels)))
    variables = net.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32), train=False)
    return of_network(net, variables, task, labels, channels=3)


def random_image(*size):
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize(("length", "tile", "overlap"), [(97, 32, 0.5), (32, 32, 0.5), (40, 32, 0)])
def test_the_weights_of_the_tiles_add_up_to_one(length, tile, overlap):
    total = np.zeros(length)
    starts = windows(length, tile, overlap)
    for start, weight in starts:
        assert weight.min() >= 0
        total[start : start + tile] += weight
    np.testing.assert_allclose(total, 1, rtol=1e-6)
    assert starts[0][0] == 0
    assert starts[-1][0] == length - tile
    steps = np.diff([start for start, _ in starts])
    assert (steps <= np.ceil(tile * (1 - overlap))).all()


@pytest.mark.parametrize("size", [(97, 70), (32, 200), (33, 32), (20, 90), (5, 7)])
@pytest.mark.parametrize("overlap", [0.5, 0.75])
def test_a_net_that_sees_less_than_the_overlap_predicts_what_it_would_untiled(size, overlap):
    net, image = predictor_of(Local()), random_image(*size)
    (found,) = tiled(net, (32, 32), overlap=overlap).maps([image])
    assert found.shape == (*size, 3)
    padded = np.pad(image, [(0, max(0, 32 - n)) for n in size] + [(0, 0)], mode="edge")
    (whole,) = net.maps([padded])
    np.testing.assert_allclose(found, whole[: size[0], : size[1]], atol=1e-5)


def test_a_constant_stays_constant():
    net = predictor_of(Constant())
    (found,) = tiled(net, (16, 24), overlap=0.4).maps([random_image(61, 83)])
    np.testing.assert_allclose(found, np.broadcast_to(found[0, 0], found.shape), atol=1e-6)
    np.testing.assert_allclose(found[0, 0], net.maps([random_image(16, 24)])[0][0, 0], atol=1e-6)


def test_rows_come_from_top_to_bottom_and_are_decoded_as_they_come():
    predict = tiled(predictor_of(Local()), (16, 16))
    image = random_image(70, 41)
    rows = list(predict.rows(image))
    assert len(rows) > 3
    assert max(map(len, rows)) <= 16
    (maps,) = predict.maps([image])
    np.testing.assert_array_equal(np.concatenate(rows), maps)
    found = predict(image)
    np.testing.assert_array_equal(found.label, np.argmax(maps, -1))
    np.testing.assert_allclose(found.probabilities, maps, atol=1e-6)
    stated = dataclasses.replace(predict, maps=None)  # the map of the whole image isn't asked for
    np.testing.assert_array_equal(stated(image).label, found.label)


def test_all_tiles_have_one_shape():
    shapes = set()
    net = predictor_of(Constant())

    def maps(images):
        shapes.add(np.shape(images))
        return net.maps(images)

    list(tiled(dataclasses.replace(net, maps=maps), (16, 16)).rows(random_image(50, 90)))
    assert shapes == {(4, 16, 16, 3)}


def test_an_ensemble_is_tiled_as_a_whole():
    image = random_image(40, 40)
    one, other = predictor_of(Local()), predictor_of(Constant())
    (found,) = tiled(averaged([one, other]), (16, 16)).maps([image])
    each = [tiled(net, (16, 16)).maps([image])[0] for net in (one, other)]
    np.testing.assert_allclose(found, (each[0] + each[1]) / 2, atol=1e-6)


def test_objects_are_put_together_from_the_maps_of_all_tiles():
    labels = Nuclei().labels
    predict = tiled(predictor_of(Local(), Panoptic(max_objects=8), labels), (16, 16))
    found = predict(random_image(40, 33))
    assert found.segments.number.shape == found.label.shape == (40, 33)


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [((16, 16), 1.0, r"--overlap is 1\.0"), ((0, 16), 0.5, r"--tile is 0 16; .* above 0")],
)
def test_tiles_that_make_no_sense_are_refused(tile, overlap, message):
    with pytest.raises(InputError, match=message):
        tiled(predictor_of(Local()), tile, overlap=overlap)


def test_images_are_tiled_one_at_a_time():
    seen = []
    net = predictor_of(Constant())

    def maps(images):
        seen.append(len(images))
        return net.maps(images)

    predict = tiled(dataclasses.replace(net, maps=maps), (16, 16))
    once = len(list(predict.predictions([(0, random_image(20, 20))]))), len(seen)
    seen.clear()
    assert len(list(predict.predictions((k, random_image(20, 20)) for k in range(3)))) == 3
    assert len(seen) == 3 * once[1]
