"""What may stand in the chart's values, as models from which values.schema.json is written."""

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
"""A piece of Kubernetes API that the templates pass on; the API server, and kubernetes-validate before it, check it."""


class _Values(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, validate_by_name=True)


class Image(_Values):
    """The container image; what is empty is taken from the descriptor."""

    registry: str = ""
    name: str = ""
    tag: str = ""
    digest: str = Field(default="", pattern="^(sha256:[0-9a-f]{64})?$", description="wins over the tag")
    pull_policy: str = Field(default="IfNotPresent", pattern="^(Always|IfNotPresent|Never)$")


class ServiceAccount(_Values):
    """The account the pod runs under. It needs no right to anything: no token is mounted."""

    create: bool = True
    name: ObjectName = ""
    annotations: KubernetesObject = {}


class Dbaas(_Values):
    """Where the platform says how its Redis is reached."""

    config_map: ObjectName = Field(default="dbaas-appconfig", description="empty: none, for RICs without SDL")


class Policies(_Values):
    """Policy bundles of one's own under /opt/distila/policies, from ConfigMaps or from a claim that exists."""

    config_maps: list[Annotated[str, Field(pattern=_LABEL)]] = []
    claim: ObjectName = ""


class Store(_Values):
    """Where the state of a rollout survives a restart."""

    enabled: bool = False
    claim: ObjectName = Field(default="", description="of a volume that exists; empty: one is made")
    size: Quantity = "64Mi"
    storage_class: ObjectName = ""


class Resources(_Values):
    """Of the container."""

    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class PodDisruptionBudget(_Values):
    """How node drains treat the pod."""

    enabled: bool = True
    max_unavailable: int = Field(default=1, ge=0, le=1, description="0: a drain waits until the pod is moved by hand")


class NetworkPolicy(_Values):
    """Who may talk to the pod and whom it may talk to."""

    enabled: bool = True
    platform_namespace: ObjectName = "ricplt"
    monitoring_namespace: ObjectName = Field(default="", description="may scrape; empty: nobody outside")
    extra_ingress: list[KubernetesObject] = []
    extra_egress: list[KubernetesObject] = []


class ServiceMonitor(_Values):
    """Scraping by the Prometheus operator, where its CRDs are installed."""

    enabled: bool = False
    interval: str = Field(default="15s", pattern="^[0-9]+(ms|s|m)$")
    labels: dict[str, str] = Field(default={}, description="what the Prometheus object selects by")


class Values(_Values):
    """All of them. ``config`` is laid over the descriptor's controls."""

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
    termination_grace_period_seconds: int = Field(default=15, ge=6, description="distila ends within 5 s")
