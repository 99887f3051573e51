"""Small topology documents for tests, in the formats of NCCL and hwloc."""

NCCL = b"""<!-- two GPUs behind one switch, one alone, a NIC -->
<system version="1">
  <cpu numaid="0" affinity="ff" arch="x86_64">
    <pci busid="0000:10:00.0" class="0x060400" link_speed="16.0 GT/s PCIe" link_width="16">
      <pci busid="0000:11:00.0" class="0x030200" vendor="0x10de" device="0x20b0" link_speed="16 GT/s" link_width="16">
        <gpu dev="1" sm="80" rank="1" gdr="1">
          <nvlink target="0000:12:00.0" count="4" tclass="0x030200"/>
        </gpu>
      </pci>
      <pci busid="0000:12:00.0" class="0x030200" vendor="0x10de" device="0x20b0" link_speed="Unknown" link_width="255">
        <gpu dev="0" sm="80" rank="0" gdr="1">
          <nvlink target="0000:11:00.0" count="4" tclass="0x030200"/>
        </gpu>
      </pci>
      <pci busid="0000:13:00.0" class="0x020000" link_speed="" link_width="0">
        <nic><net name="mlx5_0" dev="0" speed="100000" port="1"/></nic>
      </pci>
    </pci>
  </cpu>
  <cpu numaid="1">
    <pci busid="0000:20:00.0" class="0x030200" vendor="0x10de" device="0x20b0"><gpu dev="2" sm="80"/></pci>
  </cpu>
</system>
"""

HWLOC = b"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
  <object type="Machine" os_index="0" nodeset="0x00000003" gp_index="1">
    <object type="Package" os_index="0" nodeset="0x00000001" gp_index="3">
      <object type="NUMANode" os_index="0" nodeset="0x00000001" gp_index="4"/>
      <object type="Bridge" gp_index="10" bridge_type="0-1" depth="0" bridge_pci="0000:[2b-3b]">
        <object type="Bridge" gp_index="11" bridge_type="1-1" pci_busid="0000:2b:00.0" pci_type="0604 [8086:2030] [0:0] 04 00">
          <object type="Bridge" gp_index="12" bridge_type="1-1" pci_busid="0000:2c:00.0" pci_type="0604 [10b5:9781] [0:0] b0 00">
            <object type="Bridge" gp_index="13" bridge_type="1-1" pci_busid="0000:2d:00.0" pci_type="0604 [10b5:9781] [0:0] b0">
              <object type="PCIDev" gp_index="20" pci_busid="0000:34:00.0" pci_type="0302 [10de:1db8] [10de:131d] a1 00"
                      pci_link_speed="15.753846">
                <object type="OSDev" gp_index="30" name="nvml0" osdev_type="1">
                  <info name="GPUModel" value="Tesla V100"/><info name="NVIDIAUUID" value="GPU-a"/>
                </object>
              </object>
            </object>
            <object type="Bridge" gp_index="14" bridge_type="1-1" pci_busid="0000:2d:04.0" pci_type="0604 [10b5:9781] [0:0] b0">
              <object type="PCIDev" gp_index="21" pci_busid="0000:35:00.0" pci_type="0302 [10de:1db8] [10de:131d] a1 00">
                <object type="OSDev" gp_index="31" name="nvml1" osdev_type="1"/>
              </object>
            </object>
          </object>
        </object>
      </object>
    </object>
    <object type="Package" os_index="1" nodeset="0x00000002" gp_index="5">
      <object type="NUMANode" os_index="1" nodeset="0x00000002" gp_index="6"/>
      <object type="Bridge" gp_index="15" bridge_type="0-1" depth="0" bridge_pci="0000:[80-90]">
        <object type="PCIDev" gp_index="22" pci_busid="0000:80:00.0" pci_type="0302 [10de:1db8] [10de:131d] a1 00">
          <object type="OSDev" gp_index="32" name="nvml2" osdev_type="1"/>
        </object>
        <object type="PCIDev" gp_index="23" subtype="NVSwitch" pci_busid="0000:81:00.0" pci_type="0680 [10de:1ac2] [0:0] a1"/>
        <object type="PCIDev" gp_index="24" pci_busid="0000:82:00.0" pci_type="0300 [1a03:2000] [0:0] 41 00"/>
      </object>
    </object>
  </object>
  MATRIX
</topology>
"""

SWITCHED = b"""<distances2hetero nbobjs="4" kind="25" name="NVLinkBandwidth">
    <indexes length="35">OSDev:30 OSDev:31 OSDev:32 PCIDev:23 </indexes>
    <u64values length="40">0 0 0 150000 0 0 0 150000 </u64values>
    <u64values length="40">0 0 0 50000 150000 150000 50000 0 </u64values>
  </distances2hetero>"""

DIRECT = b"""<distances2 type="OSDev" nbobjs="2" kind="25" name="NVLinkBandwidth" indexing="gp">
    <indexes length="5">30 31 </indexes>
    <u64values length="16">1000000 80000 80000 1000000 </u64values>
  </distances2>
  <distances2 type="NUMANode" nbobjs="2" kind="5" name="NUMALatency" indexing="os">
    <indexes length="4">0 1 </indexes><u64values length="12">10 21 21 10 </u64values>
  </distances2>"""

HOPS = b"""<distances2 type="OSDev" nbobjs="3" kind="9" name="XGMIBandwidth" indexing="gp">
    <indexes length="8">30 31 32 </indexes>
    <u64values length="80">1000000 100000 100000 100000 1000000 100000 100000 100000 1000000 </u64values>
  </distances2>
  <distances2 type="OSDev" nbobjs="3" kind="33" name="XGMIHops" indexing="gp">
    <indexes length="8">30 31 32 </indexes><u64values length="18">0 1 2 1 0 1 2 1 0 </u64values>
  </distances2>"""


def hwloc(matrix: bytes = b"") -> bytes:
    """The hwloc document with a matrix in it."""
    return HWLOC.replace(b"MATRIX", matrix)
