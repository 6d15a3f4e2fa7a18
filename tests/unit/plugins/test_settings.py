"""The cluster's specification is found wherever dags and plugins are delivered to."""

from __future__ import annotations

from pathlib import Path

import pytest
from feature_store_airflow import settings

pytestmark = pytest.mark.unit


@pytest.fixture
def spec_at(tmp_path, monkeypatch):
    """Install the package in tmp_path/plugins, and a spec in each of some folders."""

    def install(*folders: str) -> None:
        for folder in folders:
            file = tmp_path / folder / "EMR" / "cluster.json"
            file.parent.mkdir(parents=True)
            file.write_text(f'{{"Name": "{folder}"}}')
        package = tmp_path / "plugins" / "feature_store_airflow"
        package.mkdir(parents=True)
        monkeypatch.setattr(settings, "__file__", str(package / "settings.py"))

    return install


@pytest.mark.parametrize(
    ("folders", "found"), [((".",), "."), (("plugins",), "plugins"), ((".", "plugins"), "plugins")], ids=str
)
def test_the_nearest_spec_above_the_package(spec_at, folders, found) -> None:
    spec_at(*folders)
    assert settings.load_cluster_spec() == {"Name": found}


def test_no_spec_is_said_plainly(spec_at, tmp_path) -> None:
    spec_at()
    with pytest.raises(FileNotFoundError, match=f"EMR/cluster.json is neither in {tmp_path / 'plugins'} nor"):
        settings.load_cluster_spec()


def test_the_repositorys_own_spec() -> None:
    root = Path(settings.__file__).resolve().parents[2]
    assert (root / "EMR" / "cluster.json").is_file()
    assert settings.load_cluster_spec()["ReleaseLabel"].startswith("emr-7.")


def test_settings_are_templates() -> None:
    assert settings.setting("keyspaces.host") == "{{ var.json.feature_store.keyspaces.host }}"
