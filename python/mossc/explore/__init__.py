"""Exploring a space of specs with many processes on many machines: docs/explore.md, "Beyond one machine".

    python -m mossc.explore create SPACE --storage URL --study NAME -o DIR
    python -m mossc.explore work --storage URL --study NAME        as many as there are, anywhere, killed at any moment
    python -m mossc.explore merge --storage URL --study NAME -o DIR

A trial of Optuna is a point of the space. What a point is and costs is asked of the program `mossc`; here is the queue.

    program.py   runs `mossc`                          space.py    points as Optuna's trials
    watch.py     ends what a killed worker began       bundle.py   a study of `mossc explore` within Optuna's storage
    store.py     storage, and one process at a time    queue.py    who works on which trial; nothing lost, nothing twice
    propose.py   points by Optuna's samplers           judge.py    a point's line: measured, judged, kept on disk
    work.py, create.py, collect.py, __main__.py        the commands
"""
