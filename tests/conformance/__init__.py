"""What a decorator must leave as it was, as data and checks that know no particular decorator.

A *subject* is the decorator under test. `matrix` runs every call shape in every binding through every column;
`scenarios` runs programs twice, undecorated and decorated, and compares what they did. Both work without pytest::

    sys.path.append("tests")  # at its end: tests/typing would hide the standard library
    from conformance import matrix, scenarios
    from conformance.subject import Subject

    for cell in matrix.run(Subject("mine", decorate=mine, set_mode=lambda mode: None)):
        print(cell.shape, cell.binding, cell.mode, cell.column, cell.problem or "same")
"""
