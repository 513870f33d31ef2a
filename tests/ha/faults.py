"""Faults of a cluster; each function returns when the cluster is whole again."""

from collections.abc import Awaitable, Callable

from tests.chaos.run import Run
from tests.ha.cluster import Cluster

Make = Callable[[Run, Cluster], Awaitable[None]]


async def postgresql_killed(run: Run, cluster: Cluster) -> None:
    """SIGKILL of the primary's PostgreSQL."""
    old = await cluster.leader()
    await cluster.kill(old, patroni=False)
    await cluster.leader(but=old)
    run.returned()
    await cluster.whole()


async def node_killed(run: Run, cluster: Cluster) -> None:
    """SIGKILL of the primary's Patroni and PostgreSQL."""
    old = await cluster.leader()
    await cluster.kill(old, patroni=True)
    await cluster.leader(but=old)
    run.returned()
    await cluster.start_patroni(old)
    await cluster.whole()


async def node_frozen(run: Run, cluster: Cluster) -> None:
    """SIGSTOP of the primary's Patroni and PostgreSQL; SIGCONT when another one is the primary."""
    old = await cluster.leader()
    with cluster.freeze(old):
        await cluster.leader(but=old)
        run.returned()
    await cluster.whole()


async def node_cut_off(run: Run, cluster: Cluster) -> None:
    """The primary loses etcd and the others, and clients still reach it, until there is another."""
    old = await cluster.leader()
    with cluster.cut_off(old):
        await cluster.leader(but=old)
        run.returned()
    await cluster.whole()


async def switchover(run: Run, cluster: Cluster) -> None:
    """`patronictl switchover`."""
    old = await cluster.leader()
    await cluster.switch_over(old)
    await cluster.leader(but=old)
    run.returned()
    await cluster.whole()


async def standbys_killed(run: Run, cluster: Cluster) -> None:
    """SIGKILL of Patroni and PostgreSQL of both standbys, which come back 10 seconds later."""
    leader = await cluster.leader()
    standbys = [node for node in cluster.nodes if node is not leader]
    for node in standbys:
        await cluster.kill(node, patroni=True)
    await run.last(10)
    for node in standbys:
        await cluster.start_patroni(node)
    run.returned()
    await cluster.whole()


ALL: dict[str, Make] = {
    make.__name__: make
    for make in (
        postgresql_killed, node_killed, node_frozen, node_cut_off, switchover, standbys_killed,
    )
}  # fmt: skip
