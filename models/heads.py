"""The methods whose checkpoints hold heads, by the name of their class."""

from models.angular import Angular
from models.backbone import Heads
from models.bbn import BBN
from models.dcl import DCL
from models.lio import LIO

HEADS: dict[str, type[Heads]] = {"DCL": DCL, "LIO": LIO, "Angular": Angular, "BBN": BBN}
