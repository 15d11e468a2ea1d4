# cython: language_level=3, boundscheck=False, wraparound=False
"""What is done when memory that is mapped from a file has no file behind it any more (SIGBUS).

Signatures and meaning are in ``_sigbus.pyi``. The handler runs in the middle of whatever was being
computed, perhaps with locks held, so it calls nothing but stat, write, sigaction, raise and _exit.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stddef cimport size_t
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <errno.h>
    #include <signal.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/stat.h>
    #include <unistd.h>

    /* A mapped file. Nodes are used again and never freed, so that a handler may walk the list. */
    typedef struct watched {
        struct watched *next;
        volatile uintptr_t start, stop; /* addresses; equal: not in use */
        char *path, *shorter, *unreadable;
        long long size; /* bytes of the file when it was mapped */
        int exit_code;
    } watched;

    static watched *volatile watched_files = 0;
    static struct sigaction previous_action;
    static char before_line[64];
    static volatile sig_atomic_t is_leaving = 0;

    static void write_out(const char *text) {
        size_t left = strlen(text);
        while (left) {
            ssize_t done = write(2, text, left);
            if (done < 0 && errno == EINTR)
                continue;
            if (done <= 0)
                return;
            text += done;
            left -= (size_t)done;
        }
    }

    static void answer_sigbus(int number, siginfo_t *info, void *context) {
        uintptr_t place = (uintptr_t)info->si_addr;
        watched *file = 0;
        (void)context;
        if (info->si_code == BUS_ADRERR)
            for (file = watched_files; file; file = file->next)
                if (file->start <= place && place < file->stop)
                    break;
        if (!file) {
            /* None of ours: the instruction fails again, and whoever was there before answers. */
            sigaction(SIGBUS, &previous_action, 0);
            if (info->si_code <= 0)
                raise(number);
            return;
        }
        if (__sync_lock_test_and_set(&is_leaving, 1))
            for (;;)
                pause(); /* another thread tells it, and ends the process */
        struct stat found;
        int is_shorter = stat(file->path, &found) == 0 && (long long)found.st_size < file->size;
        write_out(before_line);
        write_out(is_shorter ? file->shorter : file->unreadable);
        _exit(file->exit_code);
    }

    static int install_answer(void) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_sigaction = answer_sigbus;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigemptyset(&action.sa_mask);
        return sigaction(SIGBUS, &action, &previous_action);
    }
    """
    ctypedef struct watched:
        watched *next
        uintptr_t start
        uintptr_t stop
        char *path
        char *shorter
        char *unreadable
        long long size
        int exit_code
    watched *watched_files
    char before_line[64]
    int install_answer()


def install(bytes before):
    if len(before) >= 64:
        raise ValueError("too long")
    memcpy(before_line, <char *>before, len(before) + 1)
    if install_answer():
        raise OSError("SIGBUS cannot be answered")


cdef char *kept(bytes text) except NULL:
    cdef char *copy = <char *>malloc(len(text) + 1)
    if copy == NULL:
        raise MemoryError
    memcpy(copy, <char *>text, len(text) + 1)
    return copy


def watch(mapping, bytes path, long long size, bytes shorter, bytes unreadable, int exit_code):
    global watched_files
    cdef Py_buffer view
    PyObject_GetBuffer(mapping, &view, PyBUF_SIMPLE)
    cdef uintptr_t start = <uintptr_t>view.buf
    cdef size_t length = view.len
    PyBuffer_Release(&view)
    cdef watched *file = watched_files
    while file != NULL and file.start != file.stop:
        file = file.next
    if file == NULL:
        file = <watched *>malloc(sizeof(watched))
        if file == NULL:
            raise MemoryError
        file.start = file.stop = 0
        file.path = file.shorter = file.unreadable = NULL
        file.next = watched_files
        watched_files = file
    forget_texts(file)
    file.path = kept(path)
    file.shorter = kept(shorter)
    file.unreadable = kept(unreadable)
    file.size = size
    file.exit_code = exit_code
    file.start = start
    file.stop = start + length
    return <uintptr_t>file


cdef void forget_texts(watched *file) noexcept:
    free(file.path)
    free(file.shorter)
    free(file.unreadable)
    file.path = file.shorter = file.unreadable = NULL


def unwatch(uintptr_t number):
    cdef watched *file = <watched *>number
    file.stop = file.start = 0
    forget_texts(file)
