"""Write tests/nn/golden.json anew. Refused where a block changed and its VERSION did not."""

import sys
from pathlib import Path

from polymix.testing import write_golden

if __name__ == "__main__":
    silent = write_golden(Path(__file__).with_name("golden.json"))
    sys.exit("\n".join([*silent, "raise VERSION first; nothing was written"]) if silent else 0)
