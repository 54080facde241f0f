"""Health of networks: what each unit does over data, and what is proven of it."""

from relukit.monitoring._finding import Finding as Finding
from relukit.monitoring._health import Health as Health
from relukit.monitoring._health import LayerHealth as LayerHealth
from relukit.monitoring._health import health as health
from relukit.monitoring._revive import revive as revive
from relukit.monitoring._unit_picture import draw_dying_unit as draw_dying_unit
from relukit.monitoring.watch import Watch as Watch
from relukit.monitoring.watch import watch as watch
