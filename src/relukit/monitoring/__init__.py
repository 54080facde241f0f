"""Health of networks: what each unit does over data, and what is proven of it."""

from relukit.monitoring._health import Health as Health
from relukit.monitoring._health import LayerHealth as LayerHealth
from relukit.monitoring._health import health as health
