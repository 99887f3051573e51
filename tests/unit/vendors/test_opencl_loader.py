"""Which OpenCL drivers a machine has is known without loading any."""

from pathlib import Path

from mica.vendors.opencl._loader import drivers, loader_environment


def test_a_folder_of_drivers_without_those_for_processors(tmp_path: Path) -> None:
    """PoCL is known by the file's name or by what it names."""
    for name, library in (("intel.icd", "libigdrcl.so"), ("pocl.icd", "x.so"), ("other.icd", "libpocl.so.2"), ("notes.txt", "")):
        (tmp_path / name).write_text(library)
    environment = {"OCL_ICD_VENDORS": str(tmp_path)}
    assert [path.name for path in drivers(environment, processors=False)] == ["intel.icd"]
    assert {"intel.icd", "other.icd", "pocl.icd"} <= {path.name for path in drivers(environment, processors=True)}


def test_one_driver_instead_of_a_folder(tmp_path: Path) -> None:
    """Then it is the only one, and none if it is not there."""
    only = tmp_path / "intel.icd"
    environment = {"OPENCL_VENDOR_PATH": str(only)}
    assert drivers(environment, processors=True) == ()
    only.write_text("libigdrcl.so")
    assert drivers(environment, processors=True) == drivers(environment, processors=False) == (only,)


def test_who_asks_the_loader_sees_no_layer_and_pocl_only_for_processors() -> None:
    """A layer would show a slice instead of the machine."""
    inherited = {"OPENCL_LAYERS": "/l.so", "LD_LIBRARY_PATH": "/a", "HOME": "/h"}
    plain = loader_environment(inherited, processors=False)
    assert plain == {"LD_LIBRARY_PATH": "/a", "HOME": "/h", "PYOPENCL_HOME": "/nonexistent"}
    with_pocl = loader_environment(inherited, processors=True)
    assert with_pocl["LD_LIBRARY_PATH"] == f"{with_pocl['PYOPENCL_HOME']}/.libs:/a"
    assert "OPENCL_LAYERS" not in with_pocl
