"""A real Redis starts with the chart's settings, keeps what it was told, and asks for its password."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest
import redis

from tests.charts.rendering import Manifest, identity
from tests.serving.conftest import free_port

PASSWORD = "of-the-secret"


def test_redis_takes_the_settings_and_keeps_every_write(rendered: dict[str, list[Manifest]], tmp_path: Path) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("there is no redis-server on this machine: apt-get install redis-server")
    found = {identity(manifest): manifest for manifest in rendered["default"]}
    [container] = found["StatefulSet/shop-nextpage-redis"]["spec"]["template"]["spec"]["containers"]
    said = found["ConfigMap/shop-nextpage-redis"]["data"]["redis.conf"]
    (tmp_path / "redis.conf").write_text(said.replace("dir /data", f"dir {tmp_path}"))
    program, settings = container["command"]
    assert settings == "/etc/redis/redis.conf"
    password = [argument.replace("$(REDISCLI_AUTH)", PASSWORD) for argument in container["args"]]
    port = free_port()
    here = ["--bind", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([program, str(tmp_path / "redis.conf"), *password, *here], stdout=subprocess.DEVNULL)
    try:
        client = redis.Redis(port=port, password=PASSWORD, decode_responses=True)
        while not answers(client):
            assert server.poll() is None, "redis-server did not start"
            time.sleep(0.05)
        settled = {name: client.config_get(name)[name] for name in ("appendonly", "appendfsync", "maxmemory-policy")}
        assert settled == {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
        assert int(client.config_get("maxmemory")["maxmemory"]) == 3 * 2**30  # three quarters of 4Gi
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
    finally:
        server.kill()
        server.wait()


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
