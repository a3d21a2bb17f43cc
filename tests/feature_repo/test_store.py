import pytest

from feature_repo.store import create_store, open_store


def test_the_cluster_takes_its_addresses_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("NEXTPAGE_FEAST_REGISTRY", f"sqlite:///{tmp_path}/registry.db")
    monkeypatch.setenv("NEXTPAGE_FEAST_REDIS", "redis.test:6379,ssl=true")
    store = create_store(tmp_path, "cluster")
    assert store.config.online_store.type == "redis"
    assert store.config.online_store.connection_string == "redis.test:6379,ssl=true"
    assert store.config.registry.registry_type == "sql"


def test_addresses_that_are_not_set_are_named(tmp_path, monkeypatch):
    monkeypatch.delenv("NEXTPAGE_FEAST_REDIS", raising=False)
    monkeypatch.setenv("NEXTPAGE_FEAST_REGISTRY", f"sqlite:///{tmp_path}/registry.db")
    with pytest.raises(ValueError, match=r"\['NEXTPAGE_FEAST_REDIS'\]"):
        create_store(tmp_path, "cluster")


def test_a_folder_without_a_store_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no feature_store\.yaml"):
        open_store(tmp_path)
