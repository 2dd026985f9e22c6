"""Fake SLURM commands for tests: sbatch, squeue, scontrol and scancel as one script on the PATH.

The file ``plan/STEP`` sets the fate of the job of a step: ``run`` (the default), ``hang``,
``refuse``, ``swallow`` (the job runs, but the answer is lost), ``STATE EXITCODE`` for a job that
ends before it has done anything, or ``PENDING REASON``. If the file ``silent`` contains a number,
this many commands fail.
"""

import os
import signal
from pathlib import Path

SCRIPT = """#!/bin/bash
cd "$(dirname "$0")"
me=${0##*/}
echo "$me $*" >> calls
if [ -s silent ]; then
  left=$(cat silent)
  if [ "$left" -gt 0 ]; then
    echo $((left - 1)) > silent
    echo "$me: error: Unable to contact slurm controller (connect failure)" >&2
    exit 1
  fi
fi
mkdir -p jobs plan
case $me in
sbatch)
  for word; do case $word in
    --job-name=*) name=${word#*=};; --output=*) out=${word#*=};;
    --dependency=*) after=${word#*afterok:};;
  esac; done
  step=${name%.*}; step=${step%.*}
  read -r state rest < <(cat "plan/$step" 2>/dev/null || echo run)
  if [ "$state" = refuse ]; then
    echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2
    exit 1
  fi
  id=$(($(ls jobs | wc -l) + 1))
  case $state in
  run | swallow)
    echo "PENDING|None|0:0|$name" > "jobs/$id"
    out=${out//%%/%}
    (
      for needed in ${after//:/ }; do
        # a file that is being written is empty for a moment
        while
          IFS='|' read -r state _ < "jobs/$needed"
          [[ -z $state || $state == @(RUNNING|PENDING) ]]
        do
          sleep 0.05
        done
        [[ $state == COMPLETED ]] || { echo "CANCELLED|None|0:0|$name" > "jobs/$id"; exit; }
      done
      echo "RUNNING|None|0:0|$name" > "jobs/$id"
      setsid bash "${@: -1}" > "$out" 2>&1 < /dev/null &
      echo $! > "pid$id"
      state=FAILED
      wait $! && state=COMPLETED
      echo "$state|None|0:0|$name" > "jobs/$id"
    ) > /dev/null 2>&1 < /dev/null & ;;
  hang) echo "RUNNING|None|0:0|$name" > "jobs/$id" ;;
  PENDING) echo "PENDING|$rest|0:0|$name" > "jobs/$id" ;;
  *) echo "$state|None|${rest:-0:0}|$name" > "jobs/$id" ;;
  esac
  if [ "$state" = swallow ]; then
    echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2
    exit 1
  fi
  echo "$id" ;;
squeue)
  wanted=; named=; all=; format=
  for word; do case $word in
    --jobs=*) wanted=,${word#*=},;; --name=*) named=${word#*=};;
    --states=all) all=1;; --format=*) format=${word#*=};;
  esac; done
  for file in jobs/*; do
    [ -e "$file" ] || continue
    id=${file##*/}
    IFS='|' read -r state reason code name < "$file"
    [ -n "$wanted" ] && [[ $wanted != *",$id,"* ]] && continue
    [ -n "$named" ] && [ "$named" != "$name" ] && continue
    [[ -z $all && $state != RUNNING && $state != PENDING ]] && continue
    format=${format:-%i}
    row=${format//%i/$id}; row=${row//%T/$state}; row=${row//%r/$reason}; row=${row//%j/$name}
    echo "$row"
  done ;;
scontrol)
  IFS='|' read -r state reason code name < "jobs/${@: -1}" ||
    { echo "Invalid job id specified" >&2; exit 1; }
  row="JobId=${@: -1} JobName=$name JobState=$state Reason=$reason"
  echo "$row Dependency=(null) ExitCode=$code NodeList=n1" ;;
scancel)
  for id; do
    [ -e "jobs/$id" ] || continue
    IFS='|' read -r state reason code name < "jobs/$id"
    [[ $state == RUNNING || $state == PENDING ]] || continue
    [ -e "pid$id" ] && kill -TERM -- "-$(cat "pid$id")" 2> /dev/null
    echo "CANCELLED|None|0:15|$name" > "jobs/$id"
  done ;;
esac
"""


class FakeSlurm:
    """Folder with the commands, their plans and their records."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "plan").mkdir(parents=True)
        (folder / "jobs").mkdir()
        for name in ("sbatch", "squeue", "scontrol", "scancel"):
            (folder / name).write_text(SCRIPT)
            (folder / name).chmod(0o755)

    def plan(self, step: str, what: str) -> None:
        """Set the fate of the job of a step, given by its full name."""
        (self.folder / "plan" / step).write_text(f"{what}\n")

    def be_silent(self, commands: int) -> None:
        """Let this many commands fail because of a missing controller."""
        (self.folder / "silent").write_text(f"{commands}\n")

    def add(self, name: str) -> str:
        """Add a running job of another driver and return its identifier."""
        number = str(len(self.jobs()) + 1)
        (self.folder / "jobs" / number).write_text(f"RUNNING|None|0:0|{name}\n")
        return number

    def jobs(self) -> dict[str, str]:
        """Return the state of each job by identifier."""
        return {
            file.name: file.read_text().partition("|")[0]
            for file in sorted((self.folder / "jobs").iterdir())
        }

    def calls(self, command: str) -> list[str]:
        """Return the recorded calls of a command."""
        lines = (
            (self.folder / "calls").read_text().splitlines()
            if (self.folder / "calls").exists()
            else []
        )
        return [line for line in lines if line.startswith(command)]

    def end(self) -> None:
        """Kill all jobs that still run."""
        for file in self.folder.glob("pid*"):
            try:
                os.killpg(int(file.read_text()), signal.SIGKILL)
            except (ProcessLookupError, ValueError):
                continue
