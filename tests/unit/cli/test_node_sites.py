"""What ``mica nodes`` shows of a node's site."""

from mica.cli.commands.nodes import _node_row, show_site
from mica.events import Inventory, Ledger, Observed, Site

P5 = Site(cloud="aws", instance_type="p5.48xlarge", region="us-east-1", zone="us-east-1a", product="Amazon EC2 p5.48xlarge")


def test_a_site_is_shown_in_a_few_words() -> None:
    """A cloud by its instance, a machine of one's own by its name, and that nothing leaves it."""
    assert show_site(P5) == "aws p5.48xlarge us-east-1a"
    assert show_site(Site(cloud="oci", region="us-ashburn-1")) == "oci us-ashburn-1"
    assert show_site(Site(product="Dell Inc. PowerEdge XE9680", air_gapped=True)) == "Dell Inc. PowerEdge XE9680 air-gapped"
    assert show_site(Site()) == "-"


def test_a_nodes_row_has_its_site_its_instance_and_its_warnings() -> None:
    """For programs: what the catalogue says of the instance's type, null where it does not know it."""
    inventory = Inventory(node="n1", pool="p", boot_id="b", devices=(), site=P5, warnings=("seven of eight",))
    row = _node_row(inventory, [], Ledger(node="n1"), Observed(node="n1", boot_id="b"))
    assert (row["site"], row["warnings"]) == (P5, ("seven of eight",))
    assert (row["instance"].model, row["instance"].count, row["instance"].vcpus) == ("H100-SXM-80GB", 8, 192)
    bare = Inventory(node="n1", pool="p", boot_id="b", devices=())
    assert _node_row(bare, [], Ledger(node="n1"), Observed(node="n1", boot_id="b"))["instance"] is None
