# The boot sector of the lab's guests: fills memory with what no compression makes smaller, dirties it at a set rate,
# checks that all of it stays what it was, writes to the first IDE disk, and tells about it on the first serial port.
# GNU as; boot-sector.ts holds the bytes, and its test assembles this text again where as(1) is installed.
#
#   hello           booted (once: who says it twice was restarted)
#   filled          all memory from 1 MiB on holds what does not compress
#   beat 000001a4   once a second: ticks of 50 ms so far
#   intact          every page was looked at once more and is its own
#   damaged         a page is not, or a write to the disk failed; then it stands still
#
# Registers from `filled` on: ebp ticks, edi next page to dirty, ebx next page to look at.

        .intel_syntax noprefix
        .equ    FIRST_PAGE, 0x100000
        .equ    STACK, 0x7000           # not on the page of the code: each push would make TCG translate it anew
        .equ    TICKS_A_BEAT, 20
        .equ    DIVISOR, 59659          # 1193182 Hz by this is 20 Hz
        .equ    TAG, 0xffc              # the last word of each page is the page's own address

        .code16
start:  cli
        xor     eax, eax
        mov     ds, ax
        lgdt    [gdt_at]
        lidt    [idt_at]
        inc     ax
        lmsw    ax                      # protected mode; paging stays off
        ljmp    8, wide

        .code32
wide:   mov     al, 0x10
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     esp, STACK
        cld

# SeaBIOS left IRQ 0 at interrupt 8; no other line stays open.
        mov     edi, 8 * 8
        mov     eax, offset on_tick + 0x80000
        stosd
        mov     eax, 0x8e00
        stosd
        mov     al, 0xff
        out     0xa1, al
        dec     eax
        out     0x21, al
        mov     al, 0x34                # counter 0, rate generator
        out     0x43, al
        mov     al, DIVISOR & 0xff
        out     0x40, al
        mov     al, DIVISOR >> 8
        out     0x40, al

        call    say
        .asciz  "hello\n"

# A Weyl sequence over the golden ratio: 16 GiB until it repeats, and no compression of QEMU's makes a page smaller.
        mov     edi, FIRST_PAGE
fill:   mov     edx, edi
next:   add     eax, 0x9e3779b9
        stosd
        test    edi, 0xfff
        jnz     next
        mov     [edi - 4], edx
        cmp     edi, [memory_end]
        jb      fill
        call    say
        .asciz  "filled\n"

        xor     ebp, ebp
        mov     edi, FIRST_PAGE
        mov     ebx, edi
tick:   sti
        hlt
        cli
        inc     ebp

        mov     ecx, [dirty_pages]
        jecxz   look
dirty:  inc     dword ptr [edi]
        add     edi, 0x1000
        cmp     edi, [dirty_end]
        jb      1f
        mov     edi, FIRST_PAGE
1:      loop    dirty

look:   mov     ecx, [look_pages]
one:    cmp     [ebx + TAG], ebx
        jne     broken
        add     ebx, 0x1000
        cmp     ebx, [memory_end]
        jb      1f
        mov     ebx, FIRST_PAGE
        call    say
        .asciz  "intact\n"
1:      loop    one

# Sector 1 + ticks mod disk_sectors becomes 128 times the number of ticks (ATA PIO, LBA28).
        mov     ecx, [disk_sectors]
        jecxz   beat
        mov     eax, ebp
        cdq
        div     ecx
        inc     edx
        mov     eax, edx
        mov     edx, 0x1f3
        out     dx, al
        mov     al, ah
        inc     edx
        out     dx, al
        shr     eax, 16
        inc     edx
        out     dx, al
        mov     al, 0xe0
        inc     edx
        out     dx, al
        mov     al, 1
        mov     dl, 0xf2
        out     dx, al
        mov     al, 0x30                # WRITE SECTOR(S)
        mov     dl, 0xf7
        out     dx, al
1:      in      al, dx
        test    al, 8                   # DRQ
        jz      1b
        mov     eax, ebp
        mov     dl, 0xf0
        mov     ecx, 128
1:      out     dx, eax
        loop    1b
        mov     dl, 0xf7
1:      in      al, dx
        test    al, 0x80                # BSY
        jnz     1b
        test    al, 0x21                # DF, ERR
        jnz     broken

beat:   mov     eax, ebp
        cdq
        mov     ecx, TICKS_A_BEAT
        div     ecx
        test    edx, edx
        jnz     tick
        call    say
        .asciz  "beat "
        mov     ecx, 8
        mov     edx, ebp
digit:  rol     edx, 4
        mov     al, dl
        and     al, 15
        cmp     al, 10
        sbb     al, 0x69
        das                             # '0' to '9', 'A' to 'F'
        call    put
        loop    digit
        mov     al, 10
        call    put
        jmp     tick

broken: call    say
        .asciz  "damaged\n"
stop:   cli
        hlt
        jmp     stop

# Says the text behind the call, up to a zero octet, and goes on after it.
say:    pop     esi
1:      lodsb
        test    al, al
        jz      2f
        call    put
        jmp     1b
2:      jmp     esi

# Says the octet in al.

put:    push    edx
        mov     ah, al
        mov     edx, 0x3fd
1:      in      al, dx
        test    al, 0x20                # the transmitter is empty
        jz      1b
        mov     al, ah
        mov     dl, 0xf8
        out     dx, al
        pop     edx
        ret

on_tick: push   eax
        mov     al, 0x20
        out     0x20, al
        pop     eax
        iret

gdt:                                    # nobody reads its first entry: there is what lgdt wants
gdt_at: .word   3 * 8 - 1
        .long   gdt
        .word   0
        .quad   0x00cf9a000000ffff      # 8: code, all 4 GiB
        .quad   0x00cf92000000ffff      # 16: data, likewise
idt_at: .word   9 * 8 - 1               # of interrupt 8 alone, where real mode had its vectors
        .long   0

# What boot-sector.ts writes.
        .org    490
memory_end:     .long 0                 # address, a multiple of 4096
dirty_end:      .long 0                 # likewise
dirty_pages:    .long 0                 # a tick
look_pages:     .long 0                 # a tick, at least 1
disk_sectors:   .long 0                 # 0: no disk
        .word   0xaa55
