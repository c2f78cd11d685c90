"""`python -m trainer`: training without the pipeline's command line."""

import sys

from trainer.run import main

sys.exit(main(sys.argv[1:]))
