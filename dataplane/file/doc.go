// Package file is the driver for volumes that are sparse files in a directory.
//
// # The directory
//
// A volume is a regular file under its backend name. The driver also makes files whose names begin with ".cvold-": the
// lock that serialises changes of the directory between processes, files not finished yet, and, where the file system
// has no extended attributes, marks. No one else may use such names: what a killed process left behind under them is
// removed by the next New, Create or List.
//
// # Marks and identity
//
// Each file carries a mark as the extended attribute user.cvold.mark: the catalog's mark, a random object id and the
// file's inode number. A copy of the file, or the file restored from a backup, has another inode, so its mark is not
// valid and it is not ours. Where there are no extended attributes the mark lies in a file named after the inode, with
// the file's birth time against inodes used again. The identity of an object is its object id and inode.
//
// # Locks
//
// Locks are open file description locks on single bytes, in the scheme of QEMU's block/file-posix.c, so that QEMU's
// programs and this driver see each other: who opens holds a shared lock on byte 100+p for each permission p that he
// uses, and on byte 200+p for each that he does not share with others, then looks whether anyone holds the opposite.
// A writer uses reading and writing and shares reading; an exclusive opener shares nothing; a reader uses reading and
// shares all; a medium reader takes no lock. All devices of one volume share one description that holds the locks for
// all of them, because two descriptions of one process would exclude each other like strangers.
//
// Exclusive opening also asks the kernel, by a lease taken and given back, whether anyone at all has the file open, with
// or without locks. It can be asked only while this driver has no other device of the volume open.
package file
