"""Plans: canonical text and fingerprints."""

from hypothesis import given
from hypothesis import strategies as st

from paretta.search_spaces.canonical import Json, canonical_json
from paretta.search_spaces.space.plan import Plan

SCALARS = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
DOCUMENTS = st.recursive(
    SCALARS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), DOCUMENTS, max_size=5), st.randoms())
def test_order_of_keys_changes_nothing(document: dict[str, Json], random: object) -> None:
    shuffled = list(document.items())
    random.shuffle(shuffled)
    assert canonical_json(document) == canonical_json(dict(shuffled))


def test_a_whole_number_is_the_same_however_it_is_written() -> None:
    assert Plan((), ({"kind": "x", "t": 4.0},)).fingerprint == Plan((), ({"kind": "x", "t": 4},)).fingerprint


def test_truth_and_one_are_different() -> None:
    assert Plan((), ({"kind": "x", "t": True},)).fingerprint != Plan((), ({"kind": "x", "t": 1},)).fingerprint


def test_baseline_and_stages_are_told_apart() -> None:
    stage = {"kind": "x"}
    assert Plan((stage,), ()).fingerprint != Plan((), (stage,)).fingerprint


def test_prefixes_are_shared_up_to_the_first_difference() -> None:
    one = Plan(({"kind": "a"},), ({"kind": "b"}, {"kind": "c"}))
    two = Plan(({"kind": "a"},), ({"kind": "b"}, {"kind": "d"}))
    assert one.prefixes()[:2] == two.prefixes()[:2]
    assert one.prefixes()[2] != two.prefixes()[2]


def test_plans_survive_the_round_trip() -> None:
    plan = Plan(({"kind": "a", "n": [1, 2]},), ({"kind": "b", "x": {"y": None}},))
    assert Plan.from_document(plan.to_document()) == Plan(({"kind": "a", "n": [1, 2]},), plan.stages)
