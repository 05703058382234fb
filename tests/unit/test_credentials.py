"""Where credentials come from, what is refused, and that a secret never shows."""

import os
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from collector.errors import ConfigurationError
from collector.jdcloud.credentials import Credentials, load
from collector.text import scrub

SECRET = "s3cr3t%(key)s"
GOOD = f'access_key = "AK"\nsecret_key = "{SECRET}"\n'


def private(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return path


def refused(spec: str, base: Path, env: Mapping[str, str] | None = None) -> str:
    """The one line that refuses `spec`; it and its causes never hold the secret."""
    with pytest.raises(ConfigurationError) as caught:
        load(spec, base=base, env=env or {})
    text = str(caught.value)

    assert "\n" not in text
    assert "s3cr3t" not in text
    assert "s3cr3t" not in repr(caught.value.__cause__)
    assert caught.value.__cause__ is None or isinstance(caught.value.__cause__, OSError)
    return text


def test_nothing_secret_in_representations() -> None:
    """repr, str and format show a digest of the access key and nothing else."""
    credentials = Credentials("AKEXAMPLE", "s3cr3t", "t0ken")

    for shown in (repr(credentials), str(credentials), f"{credentials}", f"{[credentials]}"):
        assert "Credentials(ak:" in shown
        assert not any(secret in shown for secret in ("AKEXAMPLE", "s3cr3t", "t0ken"))


def test_key_id_is_of_the_access_key_alone() -> None:
    """The lease's name is `ak:` and 16 hex digits of the access key's SHA-256."""
    assert Credentials("AKEXAMPLE", "a").key_id == Credentials("AKEXAMPLE", "b", "t").key_id
    assert Credentials("abc", "x").key_id == "ak:ba7816bf8f01cfea"  # FIPS 180-2's first example


def test_env(tmp_path: Path) -> None:
    """`env` reads three variables; an empty token is none."""
    env = {"JDCLOUD_ACCESS_KEY": "AK", "JDCLOUD_SECRET_KEY": SECRET}

    assert load("env", base=tmp_path, env=env) == Credentials("AK", SECRET)
    env["JDCLOUD_SECURITY_TOKEN"] = ""
    assert load("env", base=tmp_path, env=env).security_token is None
    env["JDCLOUD_SECURITY_TOKEN"] = "tok"
    assert load("env", base=tmp_path, env=env) == Credentials("AK", SECRET, "tok")


def test_env_names_the_missing_variable(tmp_path: Path) -> None:
    """A variable that is missing or empty is named."""
    half = {"JDCLOUD_ACCESS_KEY": "AK", "JDCLOUD_SECRET_KEY": ""}

    assert refused("env", tmp_path) == "JDCLOUD_ACCESS_KEY is missing or empty"
    assert refused("env", tmp_path, half) == "JDCLOUD_SECRET_KEY is missing or empty"


@pytest.mark.parametrize("value", ["s3cr3t\r\nx: y", "s3cr3t x", "s3cr3té", "\x7fs3cr3t"])
def test_what_no_header_can_carry_is_refused(tmp_path: Path, value: str) -> None:
    """A key with a space, a control or a non-ASCII character is refused without being shown."""
    text = refused("env", tmp_path, {"JDCLOUD_ACCESS_KEY": "AK", "JDCLOUD_SECRET_KEY": value})

    assert text.startswith("JDCLOUD_SECRET_KEY: found a space, a control or a non-ASCII character")


@pytest.mark.parametrize("spec", ["", "vault:x", "env:", "file:", "ENV", "jdc", "jdc:"])
def test_unknown_source(tmp_path: Path, spec: str) -> None:
    """An unknown kind, or one that names nothing, is answered with the allowed ones."""
    assert 'allowed are "env", "jdc:PROFILE" and "file:PATH"' in refused(spec, tmp_path)


def test_jdc_profiles(tmp_path: Path) -> None:
    """`jdc:` reads the profile it names."""
    config = (
        f"[default]\naccess_key = A1\nsecret_key = {SECRET}\nregion_id = cn-north-1\n"
        "[work]\naccess_key = A2\nsecret_key = S2\n"
    )
    private(tmp_path / ".jdc" / "config", config)
    env = {"HOME": str(tmp_path)}

    assert load("jdc:work", base=tmp_path, env=env) == Credentials("A2", "S2")
    assert load("jdc:default", base=tmp_path, env=env) == Credentials("A1", SECRET)
    assert "has no profile 'play'; profiles: default, work" in refused("jdc:play", tmp_path, env)
    assert "HOME is not set" in refused("jdc:work", tmp_path)


@pytest.mark.usefixtures("no_entry")
def test_a_home_that_may_not_be_entered(tmp_path: Path) -> None:
    """Somebody else's `~/.jdc`, as `runuser` leaves HOME, is one line that names the file."""
    assert ".jdc/config: cannot be read" in refused(
        "jdc:default", tmp_path, {"HOME": str(tmp_path)}
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("s3cr3t\n", "line 1 is malformed"),
        ("[default]\naccess_key = A\ns3cr3t\n", "line 3 is malformed"),
        ("[default]\nsecret_key = s3cr3t\nsecret_key = s3cr3t2\n", "line 3 is malformed"),
        ("[default]\nsecret_key = s3cr3t\n", "[default]: access_key is missing or empty"),
        (None, "cannot be read: No such file or directory"),
    ],
    ids=["no section", "no value", "twice", "half", "absent"],
)
def test_jdc_faults(tmp_path: Path, config: str | None, said: str) -> None:
    """A broken file is named with the line or key, whose text is not shown."""
    if config is not None:
        private(tmp_path / ".jdc" / "config", config)

    text = refused("jdc:default", tmp_path, {"HOME": str(tmp_path)})

    assert str(tmp_path / ".jdc" / "config") in text
    assert said in text


def test_file(tmp_path: Path) -> None:
    """`file:` is relative to the configuration, or found through an environment variable."""
    private(tmp_path / "jd.toml", GOOD)
    private(tmp_path / "run" / "tok.toml", GOOD + 'security_token = "tok"\n', 0o400)
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path / "run")}

    assert load("file:jd.toml", base=tmp_path, env={}) == Credentials("AK", SECRET)
    for spec in ("file:$CREDENTIALS_DIRECTORY/tok.toml", "file:${CREDENTIALS_DIRECTORY}/tok.toml"):
        assert load(spec, base=Path("/nowhere"), env=env).security_token == "tok"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o666])
def test_file_that_others_reach(tmp_path: Path, mode: int) -> None:
    """A file that its group or others may read or write is refused, with its mode."""
    private(tmp_path / "jd.toml", GOOD, mode)

    assert f"mode {mode:04o}" in refused("file:jd.toml", tmp_path)


@pytest.mark.parametrize(
    ("entry", "accepted"),
    [
        ((0x02, 4, os.geteuid()), True),
        ((0x02, 4, 54321), False),
        ((0x08, 4, 54321), False),
    ],
    ids=["this user", "another user", "a group"],
)
def test_access_lists(tmp_path: Path, entry: tuple[int, int, int], accepted: bool) -> None:
    """With an access list, as systemd sets it, the mode's group bits are the mask: who is in the
    list decides."""
    path = private(tmp_path / "jd.toml", GOOD, 0o400)
    nobody = 0xFFFFFFFF
    users = [entry] if entry[0] == 0x02 else []
    groups = [entry] if entry[0] == 0x08 else []
    entries = [
        (0x01, 4, nobody),
        *users,
        (0x04, 0, nobody),
        *groups,
        (0x10, 4, nobody),
        (0x20, 0, nobody),
    ]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *item) for item in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", value)
    except OSError as error:
        pytest.skip(f"no access lists here: {error.strerror}")

    assert path.stat().st_mode & 0o777 == 0o440
    if accepted:
        assert load("file:jd.toml", base=tmp_path, env={}) == Credentials("AK", SECRET)
    else:
        assert "mode 0440" in refused("file:jd.toml", tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('secret_key = "s3cr3t\n', "is not TOML (at line 1, column 21)"),
        (
            GOOD + 'region = "x"\n',
            "unknown key 'region'; allowed are access_key and secret_key and security_token",
        ),
        ('secret_key = "s3cr3t"\n', "access_key is missing or empty"),
        ('access_key = 7\nsecret_key = "s3cr3t"\n', "access_key: found int, allowed is text"),
    ],
)
def test_file_faults(tmp_path: Path, text: str, said: str) -> None:
    """What is wrong in a file is named with the file and the place or key."""
    path = private(tmp_path / "jd.toml", text)

    found = refused("file:jd.toml", tmp_path)

    assert found.startswith(str(path))
    assert said in scrub(found)


def test_file_paths_that_lead_nowhere(tmp_path: Path) -> None:
    """A missing file, a directory, binary data, an unset variable and a stray $ each say so."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    binary.chmod(0o600)
    (tmp_path / "folder").mkdir(0o700)

    assert "cannot be read: No such file or directory" in refused("file:absent", tmp_path)
    assert "cannot be read: Is a directory" in refused("file:folder", tmp_path)
    assert "is not UTF-8 text" in refused("file:binary", tmp_path)
    assert "$NOWHERE is not set" in refused("file:$NOWHERE/x", tmp_path)
    assert "$$ is a dollar sign" in refused("file:a$", tmp_path)
