"""Say whether the claims can be written by whom pipelines and training run as.

`python claims.py FOLDER …`. The pod that runs it mounts them with that user's group, which is what gives it to them.
"""

import sys
import tempfile

for folder in sys.argv[1:]:
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as failure:
        sys.exit(
            f"{folder} cannot be written by user 65532 ({failure}): its storage ignores fsGroup, so let its server "
            "give the folder to group 65532, or choose another storageClass"
        )
    print(f"{folder} can be written")
