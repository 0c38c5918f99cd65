import subprocess
import sys


def test_importing_evaluation_and_outputs_loads_nothing_slow():
    code = (
        "import sys, medfusion.evaluation.evaluate, medfusion.outputs.report, medfusion.outputs.patient;"
        "print(sorted({'matplotlib', 'sklearn', 'jinja2', 'rich', 'cv2', 'torch', 'scipy.stats'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
