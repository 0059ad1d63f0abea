"""The chart's values as models, from which values.schema.json is written."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from distila.xapp.config import RunConfig

_QUANTITY: Final = r"^([0-9]+(\.[0-9]+)?)(m|Ki|Mi|Gi|Ti|k|M|G|T)?$"
_NAME: Final = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"
_LABEL: Final = r"^[a-z0-9]([-a-z0-9]{0,54}[a-z0-9])?$"

Quantity = Annotated[str, Field(pattern=_QUANTITY)] | Annotated[int, Field(ge=0)]
ObjectName = Annotated[str, Field(pattern=_NAME)]
KubernetesObject = dict[str, Any]
"""Part of a Kubernetes object that the templates pass on; kubernetes-validate and the API server check it."""


class _Values(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, validate_by_name=True)


class Image(_Values):
    """The container image; empty fields are taken from the descriptor."""

    registry: str = ""
    name: str = ""
    tag: str = ""
    digest: str = Field(
        default="", pattern="^(sha256:[0-9a-f]{64})?$", description="digest of the image, used instead of the tag"
    )
    pull_policy: str = Field(default="IfNotPresent", pattern="^(Always|IfNotPresent|Never)$")


class ServiceAccount(_Values):
    """The account that the pod runs under. It needs no permissions, and no token is mounted."""

    create: bool = True
    name: ObjectName = ""
    annotations: KubernetesObject = {}


class Dbaas(_Values):
    """The ConfigMap with the address of the platform's Redis."""

    config_map: ObjectName = Field(
        default="dbaas-appconfig", description="name of the ConfigMap; empty: none, for a RIC without SDL"
    )


class Policies(_Values):
    """Your own policy bundles under /opt/distila/policies, from ConfigMaps or from an existing claim."""

    config_maps: list[Annotated[str, Field(pattern=_LABEL)]] = []
    claim: ObjectName = ""


class Store(_Values):
    """A volume on which the state of a rollout survives a restart of the pod."""

    enabled: bool = False
    claim: ObjectName = Field(default="", description="claim of an existing volume; empty: a new one is created")
    size: Quantity = "64Mi"
    storage_class: ObjectName = ""


class Resources(_Values):
    """Resources of the container."""

    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class PodDisruptionBudget(_Values):
    """The disruption budget, which node drains respect."""

    enabled: bool = True
    max_unavailable: int = Field(default=1, ge=0, le=1, description="0: a drain waits until the pod is moved manually")


class NetworkPolicy(_Values):
    """Traffic that is allowed to and from the pod."""

    enabled: bool = True
    platform_namespace: ObjectName = "ricplt"
    monitoring_namespace: ObjectName = Field(
        default="", description="namespace that may scrape the metrics; empty: no other namespace may"
    )
    extra_ingress: list[KubernetesObject] = []
    extra_egress: list[KubernetesObject] = []


class ServiceMonitor(_Values):
    """Scraping by the Prometheus operator; needs its CRDs."""

    enabled: bool = False
    interval: str = Field(default="15s", pattern="^[0-9]+(ms|s|m)$")
    labels: dict[str, str] = Field(default={}, description="labels by which your Prometheus selects monitors")


class Values(_Values):
    """All values of the chart. ``config`` overrides the descriptor's controls."""

    image: Image = Image()
    image_pull_secrets: list[KubernetesObject] = []
    config: RunConfig = RunConfig()
    policies: Policies = Policies()
    tls_secret: ObjectName = ""
    store: Store = Store()
    dbaas: Dbaas = Dbaas()
    seed_routes: str = ""
    extra_env: list[KubernetesObject] = []
    extra_volumes: list[KubernetesObject] = []
    extra_volume_mounts: list[KubernetesObject] = []
    resources: Resources = Resources()
    pod_security_context: KubernetesObject = {}
    security_context: KubernetesObject = {}
    service_account: ServiceAccount = ServiceAccount()
    pod_disruption_budget: PodDisruptionBudget = PodDisruptionBudget()
    network_policy: NetworkPolicy = NetworkPolicy()
    service_monitor: ServiceMonitor = ServiceMonitor()
    pod_annotations: dict[str, str] = {}
    pod_labels: dict[str, str] = {}
    node_selector: dict[str, str] = {}
    tolerations: list[KubernetesObject] = []
    affinity: KubernetesObject = {}
    priority_class_name: ObjectName = ""
    termination_grace_period_seconds: int = Field(
        default=15, ge=6, description="time [s] to end; distila needs less than 5 s"
    )
