"""The sampling loop as a graph with a while-node: to be measured beside the session's own, whose graph has every step.

One graph then serves every number of steps, and holds a network call once. What it costs is the node's own work between
two steps, which happens on the device and only a device can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seggd_engines.cuda import CudaGraph, CudaSession, CudaStream, DeviceStream, kernel_source, nothing_collected
from seggd_rt.engine import CudaNetwork
from seggd_rt.errors import EngineError
from seggd_rt.gpu import drive
from seggd_rt.optional import require

MORE = "seggd_more"
_SOURCE = """
extern "C" __device__ __cudart_builtin__ void cudaGraphSetConditional(unsigned long long handle, unsigned int value);

extern "C" __global__ void seggd_more(const seggd::Sampling* state, unsigned long long handle) {
  cudaGraphSetConditional(handle, static_cast<int>(*state->step) < state->steps);
}
"""
_PURPOSE = "record the sampling loop with a while-node"


class WhileSession(CudaSession):
    """A session whose whole loop is one graph for all numbers of steps: see `CudaSession`."""

    def __init__(self, network: CudaNetwork, stream: DeviceStream, batch: int, lanes: int = 1) -> None:
        if not isinstance(stream, CudaStream):
            raise EngineError("while-nodes are recorded on a GPU's own stream")
        self._gpu = stream
        super().__init__(network, stream, batch, lanes)
        if not self._capturable:
            raise EngineError(f"{network.info.engine} cannot be recorded")

    def _launch(self, *, whole: bool, steps: int) -> None:
        if not whole:
            super()._launch(whole=whole, steps=steps)
            return
        key = (True, 0)
        if key not in self._graphs:
            if not self._called:
                self._begin()
                self.enqueue_call()
                self._stream.synchronize()
            self._graphs[key] = capture_while(
                self._gpu, self._begin, lambda: self._loop(whole=False, steps=1), self._finish, self._inputs
            )
        self._graphs[key].launch()


class _WhileGraph(CudaGraph):
    """A graph, and the kernel in it that nobody else keeps."""

    def __init__(self, stream: CudaStream, recorded: Any, kernel: Any) -> None:
        super().__init__(stream._driver, recorded, stream.handle, _PURPOSE)
        self._kernel = kernel


def capture_while(
    stream: CudaStream, before: Callable[[], None], body: Callable[[], None], after: Callable[[], None], state: int
) -> CudaGraph:
    """Record work before a loop, in it, and after it; the loop runs at least once, and as long as steps are left.

    Parameters
    ----------
    stream
        What they enqueue on.
    before, body, after
        The work. The body may neither allocate nor call the host.
    state
        The address of a `Sampling`, which counts the steps.

    Raises
    ------
    EngineError
        The driver refuses: while-nodes need one of CUDA 12.3 or newer.
    """
    driver = stream._driver
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL

    def record(work: Callable[[], None], graph: Any, after_node: Any = None) -> list[Any]:
        """Add work to a graph, behind a node; return its last nodes."""
        nodes = [] if after_node is None else [after_node]
        begin = driver.cuStreamBeginCaptureToGraph
        drive(begin(stream.handle, graph, nodes or None, None, len(nodes), mode), _PURPOSE)
        try:
            work()
            _, _, _, _, last, _, count = driver.cuStreamGetCaptureInfo(stream.handle)
            return list(last[:count])
        finally:
            driver.cuStreamEndCapture(stream.handle)

    more = _more_kernel(stream)
    core = require("cuda.core", extra="cuda", feature="running on a GPU")
    graph = drive(driver.cuGraphCreate(0), _PURPOSE)
    try:
        with nothing_collected():
            last = record(before, graph)
            context = drive(driver.cuCtxGetCurrent(), _PURPOSE)
            handle = drive(driver.cuGraphConditionalHandleCreate(graph, context, 1, 1), _PURPOSE)  # 1 at each launch
            parameters = driver.CUgraphNodeParams()
            parameters.type = driver.CUgraphNodeType.CU_GRAPH_NODE_TYPE_CONDITIONAL
            parameters.conditional.handle = handle
            parameters.conditional.type = driver.CUgraphConditionalNodeType.CU_GRAPH_COND_TYPE_WHILE
            parameters.conditional.size = 1
            parameters.conditional.ctx = context
            node = drive(driver.cuGraphAddNode(graph, last, None, len(last), parameters), _PURPOSE)
            one = core.LaunchConfig(grid=1, block=1)

            def step() -> None:
                body()
                core.launch(stream._stream, one, more, state, int(handle))

            record(step, parameters.conditional.phGraph_out[0])
            record(after, graph, node)
    except BaseException:
        driver.cuGraphDestroy(graph)
        raise
    return _WhileGraph(stream, graph, more)


def _more_kernel(stream: CudaStream) -> Any:
    """Compile and load the kernel that says whether steps are left."""
    core = require("cuda.core", extra="cuda", feature="running on a GPU")
    options = core.ProgramOptions(name="more.cu", arch=f"sm_{stream._device.arch}", std="c++17", fma=False)
    kernel = core.Program(kernel_source() + _SOURCE, "c++", options).compile("cubin").get_kernel(MORE)
    function = drive(stream._driver.cuKernelGetFunction(kernel.handle), "load a kernel")
    drive(stream._driver.cuFuncLoad(function), "load a kernel")
    return kernel
