"""What docs/containers.md prints fits the program: its manifests' files, words, codes and times."""

import re
from pathlib import Path

import pytest
import yaml

from collector import config
from collector.cli.main import COMMANDS
from collector.errors import Exit
from collector.jdcloud.credentials import load
from collector.serve import DRAIN_LIMIT_S

PAGE = (Path(__file__).parents[2] / "docs" / "containers.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


MANIFESTS = {found["kind"]: found for text in blocks("yaml") for found in yaml.safe_load_all(text)}
JOB = MANIFESTS["CronJob"]["spec"]["jobTemplate"]["spec"]
PODS = [JOB["template"]["spec"], MANIFESTS["Deployment"]["spec"]["template"]["spec"]]


@pytest.mark.parametrize("pod", PODS)
def test_the_pod_finds_its_configuration_and_keys(tmp_path, pod):
    """The mounted file and the environment are a configuration; its keys are in the secret."""
    (container,) = pod["containers"]
    env = dict(MANIFESTS["Secret"]["stringData"])
    env = {name: value.replace("…", "key") for name, value in env.items()}
    env |= {one["name"]: one["value"] for one in container.get("env", [])}
    (mount,) = container["volumeMounts"]
    ((name, text),) = MANIFESTS["ConfigMap"]["data"].items()
    (tmp_path / name).write_text(text)
    settings = config.load(tmp_path / name, env=env)

    assert Path(mount["mountPath"], name) == config.PLACES[1]
    assert settings.targets
    for account in settings.accounts:
        assert load(account.credentials, base=tmp_path, env=env)
    for port in container.get("ports", []):
        assert settings.serve.address == ("0.0.0.0", port["containerPort"])


@pytest.mark.parametrize("pod", PODS)
def test_the_pod_may_do_no_more_than_it_needs(pod):
    """It starts a command of this program as the image's user, and writes nowhere."""
    (container,) = pod["containers"]
    (image,) = blocks("dockerfile")
    user = re.search(r"^USER (\d+)$", image, re.MULTILINE)[1]

    assert container["args"][0] in COMMANDS
    assert 'ENTRYPOINT ["collector"]' in image
    assert pod["securityContext"]["runAsUser"] == int(user)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_a_job_is_not_repeated_in_vain():
    """What another process or an outage caused is tried again; what stays as it is, is not."""
    (rule,) = JOB["podFailurePolicy"]["rules"]
    found = set(rule["onExitCodes"]["values"])

    assert found == {Exit.USAGE, Exit.PARTIAL, Exit.BUG, Exit.REFUSED, Exit.CONFIGURATION}
    assert rule["action"] == "FailJob"


def test_a_service_has_time_to_stop():
    """It drains before it is killed."""
    assert PODS[1]["terminationGracePeriodSeconds"] > DRAIN_LIMIT_S
