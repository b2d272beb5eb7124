"""From what a person asks of a cluster to submitit's executors and to the sbatch file."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError
from submitit.slurm.slurm import _make_sbatch_string

from mvit_video.errors import InputError
from mvit_video.launch.job import VERDICT, Job

# Left over from another launcher in the shell that submits, they would tell the tasks a wrong place.
_STRAY = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LOCAL_STARTS = 6  # of one job, by submitit's controller; it says nothing after the last


@dataclass(frozen=True)
class Request:
    """What a job asks of the cluster.

    Attributes:
        tasks_per_node: processes on each node, one for each GPU where there are any.
        timeout: minutes.
        signal_delay: seconds before the time limit when the job is told to save.
        max_timeouts, max_failures: how often a job that ran out of time, or whose tasks failed, is requeued.
        extra: partition, account, qos, constraint, exclude, comment, where given.
    """

    name: str
    nodes: int = 1
    gpus_per_node: int = 0
    tasks_per_node: int = 1
    cpus_per_task: int = 1
    mem_gb: int | None = None
    timeout: int = 60
    signal_delay: int = 120
    max_timeouts: int = 30
    max_failures: int = 3
    array_parallelism: int = 256
    extra: tuple[tuple[str, str], ...] = ()

    @property
    def processes(self) -> int:
        return self.nodes * self.tasks_per_node

    def one_process(self, name: str, with_gpu: bool = True) -> Request:
        """The same for a job of a single process."""
        gpus = min(self.gpus_per_node, 1) if with_gpu else 0
        share = self.mem_gb and max(self.mem_gb // self.tasks_per_node, 1)
        return replace(self, name=name, nodes=1, tasks_per_node=1, gpus_per_node=gpus, mem_gb=share)


def slurm_parameters(request: Request, submission: Path, dependency: str = "") -> dict[str, Any]:
    """Settings of submitit's SlurmExecutor.

    Args:
        submission: folder that holds code/.
        dependency: "afterok:ID" or the like.
    """
    parameters: dict[str, Any] = {
        "job_name": request.name,
        "nodes": request.nodes,
        "ntasks_per_node": request.tasks_per_node,
        "cpus_per_task": request.cpus_per_task,
        "time": request.timeout,
        "signal_delay_s": request.signal_delay,
        "array_parallelism": request.array_parallelism,
        "stderr_to_stdout": True,
        "setup": [*_setup(submission), *_prepare_verdict(submission)],
        # srun takes cpus-per-task from the job on some versions of Slurm and not on others.
        "srun_args": [f"--cpus-per-task={request.cpus_per_task}", "--kill-on-bad-exit=1"],
        "teardown": _teardown(request.max_failures),
        **dict(request.extra),
    }
    more: dict[str, Any] = {"requeue": True}
    if request.gpus_per_node:
        parameters["gpus_per_node"] = request.gpus_per_node
    if request.mem_gb:
        parameters["mem"] = f"{request.mem_gb}GB"
    if dependency:
        parameters["dependency"] = dependency
        more["kill-on-invalid-dep"] = "yes"
    return {**parameters, "additional_parameters": more}


def sbatch_text(
    request: Request, folder: str, submission: Path, python: str, dependency: str, count: int
) -> str:
    """The file that sbatch would be given for `count` jobs."""
    command = f"{shlex.quote(python)} -u -m submitit.core._submit {shlex.quote(folder)}"
    array = {"map_count": count} if count > 1 else {}
    parameters = slurm_parameters(request, submission, dependency)
    return _make_sbatch_string(command=command, folder=folder, **array, **parameters)


def submit_slurm(
    request: Request, folder: str, submission: Path, dependency: str, jobs: Sequence[Job]
) -> list[submitit.Job]:
    """Submits the jobs, as one array where there are several.

    Raises:
        InputError: Slurm's reason for refusing them.
    """
    try:
        executor = submitit.SlurmExecutor(folder, max_num_timeout=request.max_timeouts)
        executor.update_parameters(**slurm_parameters(request, submission, dependency))
        return executor.submit_array(jobs)
    except FailedJobError as error:
        raise InputError(f"Slurm refused the job: {_reason(error)}") from error
    except RuntimeError as error:  # no srun
        raise InputError(f"{error} Submit on a login node, or give --cluster local") from error


def submit_local(
    request: Request, folder: str, submission: Path, jobs: Sequence[Job]
) -> list[submitit.Job]:
    """Starts the jobs on this machine, all at once; they outlive this process."""
    timeouts = min(request.max_timeouts, LOCAL_STARTS - 1)
    executor = submitit.LocalExecutor(folder, max_num_timeout=timeouts)
    executor.update_parameters(
        timeout_min=request.timeout,
        gpus_per_node=request.gpus_per_node,
        signal_delay_s=request.signal_delay,
        stderr_to_stdout=True,
        setup=[
            "trap '' INT HUP",  # the terminal's, which are not meant for the job
            # Else whoever reads what this process prints would wait for the job's end.
            f"exec </dev/null >>{shlex.quote(str(submission / 'controller.log'))} 2>&1",
            *_setup(submission),
        ],
    )
    return executor.submit_array(jobs)


def submit_debug(folder: str, jobs: Sequence[Job]) -> list[submitit.Job]:
    """Jobs that run in this process, when their result is asked for."""
    return submitit.DebugExecutor(folder).submit_array(jobs)


def _setup(submission: Path) -> list[str]:
    # Python looks for modules in the working directory first; the job goes back to the submitter's by itself.
    code = shlex.quote(str(submission / "code"))
    return [
        f"unset {' '.join(_STRAY)}",
        "export TORCH_CPP_LOG_LEVEL=ERROR",  # else each rank warns of choices made on purpose
        f"export PYTHONPATH={code}${{PYTHONPATH:+:$PYTHONPATH}}",
        f"cd {code}",
    ]


def _prepare_verdict(submission: Path) -> list[str]:
    """Names the job, and files that outlast its starts: failures so far, and what a task has said last."""
    files = shlex.quote(str(submission))
    return [
        "job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}; job=${job:-$SLURM_JOB_ID}",
        f"failures={files}/failures-$job",
        f"export {VERDICT}={files}/verdict-$job",
        f'rm -f "${VERDICT}"',
    ]


def _teardown(max_failures: int) -> list[str]:
    """Requeues a job whose tasks have failed: not for wrong input (2), nor when it was told to end (75) by anything
    but a preemption, nor when somebody else has requeued or cancelled it already.

    srun's exit code may be that of the tasks it has killed; the verdict is of the one they were killed for.
    """
    return [
        "code=$?",
        f'if [ -s "${VERDICT}" ]; then',
        f'    code=$(sed 1q "${VERDICT}")',
        f'    sed 1d "${VERDICT}" >&2',
        "fi",
        '[ "$code" != 0 ] && [ "$(squeue -h -j "$job" -o %T)" = RUNNING ] || exit "$code"',
        """preempted=$(scontrol -o show job "$job" | grep -c ' PreemptTime=[0-9]')""",
        'if [ "$code" = 75 ] && [ "$preempted" = 1 ]; then',
        '    echo "job $job is preempted and has saved: requeue" >&2',
        '    scontrol requeue "$job"',
        'elif [ "$code" = 2 ] || [ "$code" = 75 ]; then',
        '    echo "job $job has ended with exit code $code: no requeue" >&2',
        "else",
        '    echo "$(date) exit code $code" >>"$failures"',
        '    count=$(wc -l <"$failures")',
        f'    if [ "$count" -gt {max_failures} ]; then',
        f'        echo "job $job failed with exit code $code, after {max_failures} requeues: given up" >&2',
        "    else",
        f'        echo "job $job failed with exit code $code: requeue $count of at most {max_failures}" >&2',
        '        scontrol requeue "$job"',
        "    fi",
        "fi",
        'exit "$code"',
    ]


def _reason(error: Exception) -> str:
    """sbatch's own words, without the traceback that submitit puts around them."""
    lines = [line for line in str(error).splitlines() if line.startswith("sbatch: ")]
    return "; ".join(
        line.removeprefix("sbatch: ").removeprefix("error: ") for line in lines
    ) or str(error)
