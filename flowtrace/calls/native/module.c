/* The module `flowtrace.calls._native`: made once in a process, in the main interpreter, with the GIL. */
#include "native.h"
#include <string.h>

PyObject *str_close, *str_throw, *str_wrapped, *str_qualname, *str_value, *str_asend, *str_athrow, *str_aclose,
    *str_run, *str_open_buffer;

static int make_names(void)
{
    return (str_close = PyUnicode_InternFromString("close")) && (str_throw = PyUnicode_InternFromString("throw"))
        && (str_wrapped = PyUnicode_InternFromString("__wrapped__"))
        && (str_qualname = PyUnicode_InternFromString("__qualname__"))
        && (str_value = PyUnicode_InternFromString("value")) && (str_asend = PyUnicode_InternFromString("asend"))
        && (str_athrow = PyUnicode_InternFromString("athrow")) && (str_aclose = PyUnicode_InternFromString("aclose"))
        && (str_run = PyUnicode_InternFromString("run")) && (str_open_buffer = PyUnicode_InternFromString("open_buffer"))
        ? 0 : -1;
}

/* A type whose name is the real one's: messages such as "'function' object is not subscriptable" name it. A name without
 * a dot warns while a type is made, so it is set afterwards. */
PyTypeObject *make_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    PyObject *name = type ? PyUnicode_FromString(strrchr(spec->name, '.') + 1) : NULL;
    if (!name || PyObject_SetAttrString(type, "__name__", name) < 0) Py_CLEAR(type);
    Py_XDECREF(name);
    return (PyTypeObject *)type;
}

static int exec(PyObject *module)
{
#ifdef Py_GIL_DISABLED
    PyErr_SetString(PyExc_ImportError, "flowtrace's native core needs an interpreter with the GIL");
    return -1;
#endif
    if (PyInterpreterState_Get() != PyInterpreterState_Main() || SubjectType) {
        PyErr_SetString(PyExc_ImportError, "flowtrace's native core is loaded once, in the main interpreter");
        return -1;
    }
    return PyModule_AddIntConstant(module, "INTERFACE", 19) < 0 || make_names() < 0 || add_subject(module) < 0 || add_functions(module) < 0 || add_bodies(module) < 0 || add_steps(module) < 0
        || add_snapshots(module) < 0 || add_copiers(module) < 0 || add_rings(module) < 0 || add_postponed(module) < 0 || add_runs(module) < 0 || add_recording(module) < 0 || add_box(module) < 0 || add_lines(module) < 0 || add_unseen(module) < 0 ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};
static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "_native", .m_doc = "What happens in every call, in C.", .m_slots = slots,
};
PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
