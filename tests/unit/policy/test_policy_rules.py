"""What may be written as a policy, and what two of them differ in."""

import pytest

from mica.events import (
    EventError,
    IntruderAction,
    Mode,
    NodePolicy,
    Overruns,
    PoolPolicy,
    Severity,
    SpotGrace,
    TenantPolicy,
    TenantQuota,
)
from mica.policy import Difference, check, differences, in_force

REFUSED = {
    "a key of no kind": ("pols.a", "{}", "key: got pols.a, allowed: pool.NAME, node.NAME, tenant.NAME"),
    "a key without a name": ("pool.", "{}", "key: got pool., allowed: pool.NAME"),
    "a key with too many parts": ("pool.a.b", "{}", "key: got pool.a.b"),
    "no JSON": ("pool.a", "modes: [fcsp]", "body: got modes: [fcsp], allowed: one JSON object"),
    "no object": ("pool.a", "[]", "body: got [], allowed: object, got array"),
    "an unknown field": ("pool.a", '{"mode": "fcsp"}', "mode: got fcsp, allowed: one of modes, intruders, spatial"),
    "a field without a name": ("pool.a", '{"": 1}', '"": got 1, allowed: one of modes'),
    "an unknown field inside": (
        "tenant.a",
        '{"quota": {"slice": 3}}',
        "quota.slice: got 3, allowed: one of quota.slices, quota.vram_bytes, quota.share_ppm",
    ),
    "another kind's field": ("node.a", '{"modes": []}', "modes: got [], allowed: one of intruders"),
    "an unknown member": ("pool.a", '{"intruders": "kill"}', "intruders: got kill, allowed: one of report, terminate"),
    "an unknown member in a list": (
        "pool.a",
        '{"modes": ["fcsp", "mig"]}',
        "modes[1]: got mig, allowed: one of hardware, fcsp, timeslice",
    ),
    "a mode twice": ("pool.a", '{"modes": ["fcsp", "fcsp"]}', "modes: got fcsp, fcsp, allowed: each mode once"),
    "a type": ("pool.a", '{"mps_across_tenants": "yes"}', "mps_across_tenants: got yes, allowed: bool, got str"),
    "null where there is a default": ("pool.a", '{"spatial": null}', "spatial: got null, allowed: str, got null"),
    "below the range": ("tenant.a", '{"quota": {"slices": -1}}', "quota.slices: got -1, allowed: int >= 0"),
    "a profile's own name": ("profile.a", '{"name": "b"}', "name: got b, allowed: nothing"),
    "a profile that contradicts itself": (
        "profile.a",
        '{"model": "gpt2", "vram_bytes": 1000}',
        "vram_bytes: got 1000, allowed: at least 248879616, the weights alone",
    ),
    "points that contradict each other": (
        "profile.a",
        '{"points": [{"share_ppm": 1, "p99_ms": 1, "rate_hz": 1}, {"share_ppm": 2, "p99_ms": 2, "rate_hz": 1}]}',
        "points: got p99_ms 1, then 2 at 1 and 2 ppm, batch 1, allowed: no slower with more compute",
    ),
    "a step that nobody knows": (
        "node.a",
        '{"overruns": {"timeslice": "killed"}}',
        "overruns.timeslice: got killed, allowed: one of none, throttled, paused, terminated",
    ),
    "a grace that nobody knows": (
        "pool.a",
        '{"overruns": {"spot": {"kill_s": 1}}}',
        "overruns.spot.kill_s: got 1, allowed: one of",
    ),
    "patience without end": ("pool.a", '{"overruns": {"calm_s": -1}}', "overruns.calm_s: got -1, allowed: "),
    "no commands at all": ("tenant.a", '{"commands_per_s": 0}', "commands_per_s: got 0, allowed: int >= 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_policy_may_say_is_refused_with_what_it_may(case: str) -> None:
    """The field, what was given, and what is allowed, in one line."""
    key, text, expected = REFUSED[case]
    with pytest.raises(EventError) as refused:
        check(key, text.encode())
    assert str(refused.value).startswith(expected)
    assert "\n" not in str(refused.value)


def test_what_is_sound_is_read_for_its_key() -> None:
    """Each kind of key has its kind of document."""
    assert check("pool.a", b'{"modes": ["fcsp"], "drain_at": "warning"}') == PoolPolicy(
        modes=(Mode.FCSP,), drain_at=Severity.WARNING
    )
    assert check("node.a", b'{"switching": null}') == NodePolicy()
    assert check("tenant._default", b'{"quota": {"slices": 0}}') == TenantPolicy(quota=TenantQuota(slices=0))


def test_only_fields_with_another_value_are_a_difference() -> None:
    """What was left out has its default, and what is not set differs from what is by that alone."""
    before, after = PoolPolicy(modes=(Mode.FCSP,), intruders=IntruderAction.REPORT), PoolPolicy(mps_across_tenants=True)
    assert differences(before, after) == [
        Difference("modes", ["fcsp"], []),
        Difference("mps_across_tenants", before=False, after=True),
    ]
    quota = TenantPolicy(quota=TenantQuota(slices=8))
    assert differences(quota, None) == [Difference("quota.slices", 8, None)]
    assert differences(None, quota) == [Difference("quota.slices", None, 8)]
    assert differences(None, None) == []


def test_a_nodes_own_words_stand_in_place_of_its_pools() -> None:
    """Field by field; without a pool's policy over the defaults."""
    pool = PoolPolicy(intruders=IntruderAction.TERMINATE, drain_at=Severity.WARNING)
    node = NodePolicy(intruders=IntruderAction.REPORT)
    assert in_force(pool, node) == PoolPolicy(drain_at=Severity.WARNING)
    assert in_force(None, NodePolicy(drain_at=Severity.INFO)) == PoolPolicy(drain_at=Severity.INFO)
    assert in_force(pool, None) == pool


def test_what_a_node_says_in_place_of_its_pool_is_told_field_by_field() -> None:
    """Also where the version before said nothing of it; a tier's other graces keep their defaults."""
    after = check("node.a", b'{"overruns": {"spot": {"throttle_s": 0.1}}}')
    assert isinstance(after, NodePolicy)
    assert after.overruns == Overruns(spot=SpotGrace(throttle_s=0.1))
    found = {each.field: (each.before, each.after) for each in differences(NodePolicy(), after)}
    assert found["overruns.spot.throttle_s"] == (None, 0.1)
    assert found["overruns.spot.pause_s"] == (None, 0.5)
    assert found["overruns.timeslice"] == (None, "terminated")
    back = {each.field: each.after for each in differences(after, NodePolicy())}
    assert back["overruns.spot.throttle_s"] is None
